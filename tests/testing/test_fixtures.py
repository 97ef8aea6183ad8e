"""The fixtures for pytest, in a pytest of their own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from pgtasks import Celery

pytest_plugins = ["pgtasks.testing.fixtures"]

app = Celery("shop", broker="memory://", backend="cache+memory://")

@app.task(name="shop.mail")
def mail(user):
    return f"mailed {user}"

@pytest.fixture
def mail_task():
    return mail
"""


def run(pytester: pytest.Pytester, test: str, more: str = "") -> pytest.RunResult:
    pytester.makeconftest(CONFTEST + more)
    pytester.makepyfile(test)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")


def test_a_test_looks_at_what_is_enqueued_and_drains_it(pytester):
    result = run(
        pytester,
        """
        def test_one(pgtasks_testing, mail_task):
            mail_task.delay(1)
            job = pgtasks_testing.assert_enqueued(mail_task, args=[1])
            assert [job] == pgtasks_testing.all_enqueued()
            pgtasks_testing.refute_enqueued(mail_task, args=[2])
            assert pgtasks_testing.drain_queue()["completed"] == 1
            pgtasks_testing.refute_enqueued()
            assert pgtasks_testing.perform_job(mail_task, [7]).result == "mailed 7"
            with pgtasks_testing.mode("inline"):
                assert mail_task.delay(8).get() == "mailed 8"
        """,
    )
    result.assert_outcomes(passed=1)


def test_a_test_runs_jobs_inline(pytester):
    result = run(
        pytester,
        """
        def test_one(pgtasks_inline, mail_task):
            assert mail_task.delay(1).get() == "mailed 1"
            assert pgtasks_inline.main == "shop"
        """,
    )
    result.assert_outcomes(passed=1)


def test_jobs_in_memory_are_gone_in_the_next_test(pytester):
    result = run(
        pytester,
        """
        def test_one(pgtasks_testing, mail_task):
            mail_task.delay(1)

        def test_two(pgtasks_testing):
            pgtasks_testing.refute_enqueued()
        """,
    )
    result.assert_outcomes(passed=2)


def test_the_app_and_its_connection_can_be_chosen(pytester, database_url):
    result = run(
        pytester,
        """
        def test_one(pgtasks_testing, pgtasks_app, pgtasks_connection):
            assert pgtasks_app.main == "other"
            pgtasks_app.tasks["other.note"].apply_async(connection=pgtasks_connection)
            pgtasks_testing.assert_enqueued("other.note")
            assert pgtasks_testing.drain_queue()["completed"] == 1

        def test_two(pgtasks_testing):
            pgtasks_testing.refute_enqueued()
        """,
        f"""
import psycopg

@pytest.fixture
def pgtasks_app():
    with Celery("other", broker="{database_url}", set_as_current=False) as app:
        app.task(name="other.note")(lambda: None)
        yield app

@pytest.fixture
def pgtasks_connection():
    with psycopg.connect("{database_url}") as connection:
        yield connection
        connection.rollback()
""",
    )
    result.assert_outcomes(passed=2)


def test_a_failure_shows_what_is_enqueued(pytester):
    result = run(
        pytester,
        """
        def test_one(pgtasks_testing, mail_task):
            mail_task.delay(1)
            pgtasks_testing.assert_enqueued(mail_task, args=[2])
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*One job is enqueued:*", "*shop.mail(1)*other args*"])
