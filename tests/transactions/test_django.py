"""Django's transactions: joined by themselves, on either driver, savepoints and all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django")

PROJECT = Path(__file__).parents[1] / "contrib" / "django_project"

# Django takes psycopg 3 where it is installed.
ON_PSYCOPG2 = """
import sys
loaded = {name: module for name, module in sys.modules.items()
          if name.partition(".")[0] == "psycopg"}
for name in loaded: del sys.modules[name]
sys.modules["psycopg"] = None
import django.db.backends.postgresql.psycopg_any
import django.db.backends.postgresql.base as base
del sys.modules["psycopg"]
sys.modules.update(loaded)
assert base.Database.__name__ == "psycopg2"
"""
PROGRAM = """
import django, json, pgtasks, psycopg, shop
from django.conf import settings
settings.DATABASES["other"] = {**settings.DATABASES["default"], "NAME": "postgres"}
DRIVER
django.setup()
from contextlib import suppress
from django.db import connection, connections, transaction
from orders.tasks import count
from pgtasks.exceptions import NotCommitted

witness = psycopg.connect(WITNESS, autocommit=True)
witness.execute('listen "pgtasks.jobs"')
def seen():
    return witness.execute("select count(*) from pgtasks.jobs").fetchone()[0]
def heard():
    return [each.payload for each in witness.notifies(timeout=0)]
answer = []
"""


@pytest.fixture(params=["psycopg", "psycopg2"])
def project(request: pytest.FixtureRequest, database_url: str) -> Any:
    """Runs statements in the project; the answer is what they leave in ``answer``."""

    def run(*lines: str, **environment: str) -> Any:
        preamble = PROGRAM.replace("WITNESS", repr(database_url)).replace(
            "DRIVER", ON_PSYCOPG2 if request.param == "psycopg2" else ""
        )
        paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [
                *(sys.executable, "-W", "error", "-c"),
                "\n".join([preamble, *lines, "print(json.dumps(answer))"]),
            ],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "SHOP_DATABASE_URL": database_url,
                "DJANGO_SETTINGS_MODULE": "shop.settings",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


LENT = pytest.mark.parametrize(
    "lent", ["connection", "connections['default']", "'default'"]
)


@LENT
def test_a_connection_is_lent_by_itself_or_by_its_alias(project, lent):
    answer = project(
        "for fail in (False, True):",
        "    with suppress(KeyError), pgtasks.using(None), transaction.atomic():",
        f"        count.apply_async(connection={lent})",
        f"        count.delay_many([(), ()], connection={lent})",
        "        answer.append(seen())",
        "        if fail: raise KeyError",
        "    answer.append(seen())",
    )

    assert answer == [0, 3, 3, 3]


def test_a_cursor_is_lent(project):
    answer = project(
        "with transaction.atomic(), connection.cursor() as cursor:",
        "    count.apply_async(connection=cursor)",
        "    answer.append(seen())",
        "answer.append(seen())",
    )

    assert answer == [0, 1]


def test_delay_joins_the_open_transaction(project):
    answer = project(
        "with transaction.atomic():",
        "    ids = {count.delay().id, count.si().delay().id}",
        "    ids.add(pgtasks.chord([count.si()], count.si()).delay().id)",
        "    answer.append([seen(), heard()])",
        "answer.append([seen(), heard(), len(ids)])",
        "with suppress(KeyError), transaction.atomic():",
        "    count.delay()",
        "    (count.si() | count.si()).delay()",
        "    raise KeyError",
        "answer.append([seen(), heard()])",
    )

    assert answer == [[0, []], [4, ["shop"], 3], [4, []]]


def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(project):
    answer = project(
        "with transaction.atomic():",
        "    kept = count.delay()",
        "    with suppress(KeyError), transaction.atomic():",
        "        count.delay()",
        "        raise KeyError",
        "    with transaction.atomic():",
        "        also = count.delay()",
        "    answer.append(seen())",
        "found = witness.execute('select task_id from pgtasks.jobs').fetchall()",
        "answer.append({each for each, in found} == {kept.id, also.id})",
    )

    assert answer == [0, True]


def test_unique_jobs_are_unique_in_and_after_the_transaction(project):
    answer = project(
        "def send(): return count.apply_async(unique={'period': 60})",
        "with suppress(KeyError), transaction.atomic():",
        "    send()",
        "    raise KeyError",
        "with transaction.atomic():",
        "    first = send()",
        "    with suppress(KeyError), transaction.atomic():",
        "        answer.append(send().id == first.id)",
        "        raise KeyError",
        "    again = send()",
        "    answer.append([first.conflict, again.conflict, again.id == first.id, seen()])",
        "after = send()",
        "answer.append([after.conflict, after.id == first.id, seen()])",
    )

    assert answer == [True, [False, True, True, 0], [True, True, 1]]


def test_outside_of_transactions_a_job_is_sent_at_once(project):
    assert project("count.delay()", "answer.append(seen())") == [1]


def test_one_call_stays_out_of_the_transaction(project):
    answer = project(
        "with suppress(KeyError), transaction.atomic():",
        "    count.apply_async(connection=None)",
        "    count.s().apply_async(connection=None)",
        "    count.delay_many([()], connection=None)",
        "    pgtasks.group(count.si()).apply_async(connection=None)",
        "    pgtasks.chord([count.si()], count.si()).apply_async(connection=None)",
        "    answer.append(seen())",
        "    with pgtasks.using(None):",
        "        count.delay()",
        "    answer.append(seen())",
        "    raise KeyError",
        "answer.append(seen())",
    )

    assert answer == [6, 7, 7]


def test_an_application_stays_out_of_transactions(project):
    answer = project(
        "shop.celery_app.conf.task_join_transaction = False",
        "with transaction.atomic():",
        "    count.delay()",
        "    answer.append(seen())",
    )

    assert answer == [1]


def test_a_transaction_on_another_database_is_not_joined(project):
    answer = project(
        "with transaction.atomic(using='other'):",
        "    connections['other'].cursor().execute('select 1')",
        "    count.delay()",
        "    answer.append(seen())",
    )

    assert answer == [1]


def test_a_result_cannot_be_waited_for_within_the_transaction(project):
    answer = project(
        "with transaction.atomic():",
        "    for sent in (count.delay(), count.chunks([()], 1).delay(),",
        "                 (count.si() | count.si()).delay(),",
        "                 pgtasks.chord([count.si()], count.si()).delay()):",
        "        try: sent.get(timeout=60)",
        "        except NotCommitted as error: answer.append(str(error)[:4])",
    )

    assert answer == ["Job "] * 4


def test_on_commit_sends_after_the_commit(project):
    answer = project(
        "with transaction.atomic():",
        "    count.delay_on_commit()",
        "    transaction.on_commit(lambda: count.delay())",
        "    answer.append(seen())",
        "answer.append(seen())",
        "with suppress(KeyError), transaction.atomic():",
        "    count.delay_on_commit()",
        "    raise KeyError",
        "answer.append(seen())",
    )

    assert answer == [0, 2, 2]


def test_a_broken_transaction_is_known_to_django(project):
    answer = project(
        "from django.db import DatabaseError, transaction",
        "connection.cursor().execute('alter table pgtasks.jobs rename to jobs_')",
        "try:",
        "    with transaction.atomic():",
        "        try: count.delay()",
        "        except DatabaseError as error: answer.append(type(error).__name__)",
        "        try: count.delay()",
        "        except transaction.TransactionManagementError: answer.append('known')",
        "        except DatabaseError: answer.append('aborted')",
        "finally:",
        "    connection.cursor().execute('alter table pgtasks.jobs_ rename to jobs')",
    )

    assert answer[0] == "ProgrammingError"


def test_in_a_test_case_jobs_are_rolled_back_with_the_rest(project):
    answer = project(
        "from django.test import TestCase",
        "from django.test.utils import setup_databases",
        "class Case(TestCase):",
        "    databases = {'default'}",
        "    def runTest(self):",
        "        with connection.cursor() as cursor:",
        "            count.delay()",
        "            cursor.execute('select count(*) from pgtasks.jobs')",
        "            answer.extend([cursor.fetchone()[0], seen()])",
        "import unittest",
        "assert unittest.TextTestRunner().run(Case()).wasSuccessful()",
        "answer.append(seen())",
    )

    assert answer == [1, 0, 0]
