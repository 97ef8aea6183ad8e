"""Transactional tasks in a Django project: the body runs inside of its own ``atomic()``."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("django")

from transactions.test_django import project

__all__ = ["project"]

TABLE = [
    "witness.execute('drop table if exists public.sales')",
    "witness.execute('create table public.sales (number integer)')",
    "def sell():",
    "    with connection.cursor() as cursor:",
    "        cursor.execute('insert into public.sales values (1)')",
    "def sales():",
    "    return witness.execute('select count(*) from public.sales').fetchone()[0]",
    "def ended(result):",
    "    query = 'select state::text from pgtasks.finished_jobs where task_id = %s'",
    "    return [state for state, in witness.execute(query, [result.id])]",
    "from shop.celery import app",
    "from pgtasks.contrib.testing.worker import start_worker",
]
WORKER = (
    "with start_worker(app, pool='threads', perform_ping_check=False, queues=['shop']):"
)
CLEAN = "witness.execute('drop table public.sales')"


def test_the_body_runs_in_atomic_and_settles_the_job_there(project: Any) -> None:
    answer = project(
        *TABLE,
        "@app.task(bind=True, transactional=True)",
        "def book(self, fails):",
        "    assert connection.in_atomic_block and self.connection.vendor == 'postgresql'",
        "    assert self.connection.connection is connection.connection",
        "    sell()",
        "    transaction.on_commit(lambda: answer.append(sales()))",
        "    with suppress(KeyError), transaction.atomic():",
        "        sell()",
        "        raise KeyError",
        "    count.delay()",
        "    answer.append([sales(), seen()])",
        "    if fails: raise ValueError('no')",
        WORKER,
        "    failed = book.delay(True)",
        "    with suppress(ValueError): failed.get(timeout=10)",
        "    answer.append([ended(failed), sales()])",
        "    done = book.delay(False)",
        "    done.get(timeout=10)",
        "    answer.append([ended(done), sales()])",
        CLEAN,
    )

    assert answer[:3] == [[0, 1], [["discarded"], 0], [0, 1]]
    # Who waits for the result may hear of the commit before Django's callback does.
    assert sorted(answer[3:], key=str) == [1, [["completed"], 1]]


def test_an_error_behind_the_commit_undoes_nothing(project: Any) -> None:
    answer = project(
        *TABLE,
        "@app.task(bind=True, transactional='django')",
        "def book(self):",
        "    sell()",
        "    def hook(): raise RuntimeError('of a hook')",
        "    transaction.on_commit(hook)",
        "    return 5",
        WORKER,
        "    result = book.delay()",
        "    answer.append(result.get(timeout=10))",
        "    answer.append([ended(result), sales()])",
        CLEAN,
    )

    assert answer == [5, [["completed"], 1]]


def test_what_django_is_told_to_roll_back_is_not_settled(project: Any) -> None:
    answer = project(
        *TABLE,
        "@app.task(bind=True, transactional=True)",
        "def book(self):",
        "    sell()",
        "    transaction.set_rollback(True)",
        WORKER,
        "    result = book.delay()",
        "    with suppress(Exception): result.get(timeout=10)",
        "    answer.append([ended(result), sales()])",
        CLEAN,
    )

    assert answer == [[["discarded"], 0]]


def test_a_body_whose_connection_went_away_runs_again(project: Any) -> None:
    answer = project(
        *TABLE,
        "@app.task(bind=True, transactional=True)",
        "def book(self):",
        "    sell()",
        "    if self.request.attempt == 1:",
        "        with connection.cursor() as cursor:",
        "            cursor.execute('select pg_backend_pid()')",
        "            pid = cursor.fetchone()",
        "        witness.execute('select pg_terminate_backend(%s, 5000)', pid)",
        "    sell()",
        "    return self.request.attempt",
        WORKER,
        "    answer.append(book.delay().get(timeout=10))",
        "    answer.append(sales())",
        CLEAN,
    )

    assert answer == [2, 2]


def test_complete_takes_djangos_connection_in_each_spelling(project: Any) -> None:
    answer = project(
        *TABLE,
        "@app.task(bind=True)",
        "def book(self, how, fails=False):",
        "    lent = {'name': 'default', 'proxy': connection, 'own': connections['default']}",
        "    with suppress(KeyError), transaction.atomic():",
        "        sell()",
        "        self.complete(lent[how], how)",
        "        if fails: raise KeyError",
        "    return 'as usual'",
        "@app.task(bind=True)",
        "def outside(self): self.complete(connection)",
        WORKER,
        "    answer += [book.delay(how).get(timeout=10) for how in ('name', 'proxy', 'own')]",
        "    answer.append(book.delay('name', True).get(timeout=10))",
        "    answer.append(sales())",
        "    result = outside.delay()",
        "    with suppress(Exception): result.get(timeout=10)",
        "    answer.append('commits each statement' in str(result.result))",
        CLEAN,
    )

    assert answer == ["name", "proxy", "own", "as usual", 3, True]


def test_in_a_test_case_it_is_a_part_of_the_tests_transaction(project: Any) -> None:
    answer = project(
        *TABLE,
        "from django.test import TestCase",
        "from pgtasks.testing import drain_queue, perform_job",
        "@app.task(bind=True, transactional=True)",
        "def book(self, fails):",
        "    sell()",
        "    if fails: raise ValueError",
        "class Case(TestCase):",
        "    databases = {'default'}",
        "    def runTest(self):",
        "        book.apply((True,))",
        "        perform_job(book, (True,))",
        "        book.apply((False,))",
        "        perform_job(book, (False,))",
        "        book.delay(False)",
        "        answer.append(drain_queue(app)['completed'])",
        "        with connection.cursor() as cursor:",
        "            cursor.execute('select count(*) from public.sales')",
        "            answer.append(cursor.fetchone()[0])",
        "        answer.append(sales())",
        "import unittest",
        "assert unittest.TextTestRunner().run(Case()).wasSuccessful()",
        "answer.append(sales())",
        CLEAN,
    )

    assert answer == [1, 3, 0, 0]


def test_a_coroutine_cannot_be_in_atomic(project: Any) -> None:
    answer = project(
        *TABLE,
        "@app.task(bind=True, transactional='django')",
        "async def book(self): pass",
        WORKER,
        "    result = book.delay()",
        "    with suppress(Exception): result.get(timeout=10)",
        "    answer.append(str(result.result))",
        CLEAN,
    )

    assert "no transactions for coroutines" in answer[0]


def test_with_jobs_in_memory_it_is_the_default_database(project: Any) -> None:
    answer = project(
        *TABLE,
        "memory = pgtasks.Celery('memory', broker='memory://', set_as_current=False)",
        "@memory.task(bind=True, transactional=True)",
        "def book(self, fails):",
        "    sell()",
        "    assert self.connection.in_atomic_block",
        "    if fails: raise ValueError",
        "answer += [book.apply((fails,)).state for fails in (True, False)]",
        "answer.append(sales())",
        CLEAN,
    )

    assert answer == ["FAILURE", "SUCCESS", 1]
