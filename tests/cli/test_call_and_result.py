from __future__ import annotations

import json
from datetime import datetime, timezone

import psycopg
import pytest

from pgtasks import Celery
from pgtasks.storage import results


def rows(url: str, columns: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            f"select {columns} from pgtasks.jobs order by id"
        ).fetchall()


def test_call_inserts_a_job_and_prints_its_id(run, database_url):
    called = run(
        "call", "tests.add", "-a", "[2, 3]", "-k", '{"z": "ü"}', "--queue", "mail",
        "--task-id", "my-id", "--priority", "4",
    )  # fmt: skip

    assert called.exit_code == 0, called.stderr
    assert called.stdout == "my-id\n"
    assert rows(database_url, "task, args, kwargs, queue, task_id, priority") == [
        ("tests.add", "[2, 3]", '{"z": "\\u00fc"}', "mail", "my-id", 4)
    ]


def test_call_answers_in_json(run):
    called = json.loads(run("call", "tests.add", "--json").stdout)

    assert called["task"] == "tests.add"
    assert called["id"]


def test_call_takes_an_eta_and_an_end(run, database_url):
    run("call", "tests.add", "--eta", "2999-01-01T12:00:00+02:00", "--expires", "60")
    run("call", "tests.add", "--eta", "2999-01-01T12:00:00")

    with_offset, naive = rows(
        database_url, "scheduled_at, expires_at is not null, state::text"
    )
    assert with_offset[0] == datetime(2999, 1, 1, 10, tzinfo=timezone.utc)
    assert naive[0] == datetime(2999, 1, 1, 12, tzinfo=timezone.utc)
    assert with_offset[1:] == (True, "scheduled")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["-a", "1"], """'1' is not a list. Write '[2, "three"]'."""),
        (["-a", "[1"], "is not JSON"),
        (["-k", "[]"], "is not an object"),
        (["--eta", "tomorrow"], "Write it as 2026-01-31T18:30:00+01:00"),
        (["--expires", "soon"], "or a number of seconds"),
    ],
)
def test_call_says_how_to_write_what_it_cannot_read(run, words, remedy):
    refused = run("call", "tests.add", *words)

    assert refused.exit_code == 2
    assert remedy in refused.stderr


def test_call_recognizes_a_misspelt_task_and_sends_it_all_the_same(run, database_url):
    called = run("call", "tests.ad")

    assert called.exit_code == 0
    assert "Did you mean 'tests.add'?" in called.stderr
    assert rows(database_url, "task") == [("tests.ad",)]
    assert run("-q", "call", "tests.ad").stderr == ""


def test_call_does_not_put_a_job_where_it_ends_with_the_process(run):
    refused = run("call", "tests.add", app=Celery(broker="memory://", set_as_current=False))

    assert refused.exit_code == 78
    assert "the job would end with this process" in refused.stderr


# ── result ──────────────────────────────────────────────────────────────────────────────


def store(app, task_id, **values):
    values = {"state": "completed", "status": None, "result": None, **values}
    app.database.run(results.store(task_id, task="tests.add", **values))


def test_result_prints_what_a_job_returned(run, app):
    store(app, "number", result="5")
    store(app, "text", result='"a\\n\\u001b[31mb"')

    assert run("result", "number").stdout == "5\n"
    assert run("result", "text").stdout == "a\n\\x1b[31mb\n"


def test_result_of_a_failed_job_is_its_error(run, app):
    error = {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}
    store(
        app,
        "failed",
        state="discarded",
        status="FAILURE",
        result=json.dumps(error),
        traceback="Traceback:\n  here\nValueError: no",
    )
    shown = run("result", "failed")
    traced = run("result", "failed", "--traceback")
    answered = run("result", "failed", "--json")

    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr.startswith("FAILURE: ValueError: no")
    assert traced.exit_code == 0
    assert traced.stdout == "Traceback:\n  here\nValueError: no\n"
    assert answered.exit_code == 1
    assert json.loads(answered.stdout)["result"] == "ValueError: no"


def test_result_of_an_unknown_id_does_not_wait_for_ever(run):
    refused = run("result", "nobody\x1b")

    assert refused.exit_code == 1
    assert r"There is no job 'nobody\x1b'" in refused.stderr


def test_result_waits_no_longer_than_it_is_told(run, app):
    app.send_task("tests.add", task_id="waiting")
    refused = run("result", "waiting", "--timeout", "0.05")

    assert refused.exit_code == 69
    assert "The job is PENDING after 0.05 s. 'pgtasks doctor' tells" in refused.stderr


def test_result_of_a_running_job_has_no_traceback(run, app):
    app.send_task("tests.add", task_id="waiting")

    assert "There is no traceback" in run("result", "waiting", "--traceback").stderr


def test_result_by_the_class_of_a_task(run, app):
    store(app, "number", result="5")

    assert run("result", "-t", "tests.add", "number").stdout == "5\n"
    assert (
        "There is no task 'tests.none' here"
        in run("result", "-t", "tests.none", "x").stderr
    )
