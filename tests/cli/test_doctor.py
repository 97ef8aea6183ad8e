from __future__ import annotations

import json
import os

import psycopg
import pytest

from pgtasks import Celery
from pgtasks.storage import workers
from pgtasks.worker import identity


@pytest.fixture
def examine(run):
    """The findings by what they are about, and the exit status."""

    def examine(**options):
        answer = run("doctor", "--json", **options)
        found = {each["check"]: each for each in json.loads(answer.stdout)}
        return found, answer.exit_code

    return examine


def register(app, **changes):
    values = {
        "id": "6e9dbd63-9dc5-4a5a-8eb0-8e8d6c1e3a01",
        "name": "w@here",
        "hostname": "here",
        "pid": os.getpid(),
        "machine": identity.machine(),
        "process_started": identity.process_started(os.getpid()),
        "begun_file": None,
        "lease": 60.0,
        "queues": ["celery"],
        "pool": "threads",
        "concurrency": 2,
        "version": "0",
        "info": {},
        **changes,
    }
    app.database.run(workers.register(**values))


def test_each_question_gets_a_line_with_a_verdict(run, app):
    register(app)
    shown = run("doctor")
    lines = shown.stdout.splitlines()

    assert shown.exit_code in (0, 1)
    for about in (
        "psycopg", "connection", "PostgreSQL", "durability", "connections", "clock",
        "tables", "pooler", "notifications", "worker", "queues", "transactions", "dead rows",
    ):  # fmt: skip
        assert any(line[6:].startswith(f"{about} ") for line in lines), shown.stdout


def test_a_sound_installation_is_ok(examine, app):
    register(app)
    found, status = examine()

    # The tests' own server has fsync off, which is what this is there to find.
    bad = {about for about, each in found.items() if each["verdict"] != "ok"}
    assert bad <= {"durability", "psycopg"}
    assert status == (1 if found["durability"]["verdict"] == "fail" else 0)
    assert found["notifications"]["data"]["milliseconds"] > 0
    assert abs(found["clock"]["data"]["seconds"]) < 1
    assert found["pooler"]["data"] == {"pooler": False, "direct_url": False}


def test_a_server_that_may_lose_data_fails(examine, app, postgres):
    with psycopg.connect(postgres.url) as connection:
        [(fsync,)] = connection.execute("show fsync")
    found, _ = examine()

    assert found["durability"]["verdict"] == ("ok" if fsync == "on" else "fail")


def test_asynchronous_commits_are_a_warning(examine, app, postgres, database_url, run):
    separator = "&" if "?" in database_url else "?"
    url = f"{database_url}{separator}options=-c%20synchronous_commit%3Doff"
    found, _ = examine(app=Celery(broker=url, set_as_current=False))

    assert found["durability"]["data"]["synchronous_commit"] == "off"
    assert found["durability"]["verdict"] in ("warn", "fail")


def test_missing_tables_fail_with_the_command_that_makes_them(examine, fresh_database):
    found, status = examine(app=Celery(broker=fresh_database, set_as_current=False))

    assert status == 1
    assert found["tables"]["verdict"] == "fail"
    assert found["tables"]["remedy"].startswith("Run: pgtasks schema apply --database-url ")
    assert "notifications" in found
    assert "workers" not in found


def test_without_a_connection_there_is_a_remedy_and_nothing_more(examine):
    found, status = examine(
        app=Celery(broker="postgresql://127.0.0.1:1/x", set_as_current=False)
    )

    assert status == 1
    assert list(found) == ["psycopg", "connection"]
    assert found["connection"]["remedy"] == (
        "Start the server, or correct host and port in the URL."
    )


def test_a_foreign_broker_is_a_finding_too(examine):
    found, status = examine(app=Celery(broker="redis://here", set_as_current=False))

    assert status == 1
    assert "redis://here" in found["connection"]["message"]


def test_no_worker_is_a_warning(examine):
    found, _ = examine()

    assert found["workers"]["verdict"] == "warn"
    assert found["workers"]["remedy"] == "Start one: pgtasks -A proj worker"


def test_a_worker_whose_process_is_gone_is_a_warning(examine, app):
    register(app, process_started=1.0)
    found, _ = examine()

    assert found["worker"]["verdict"] == "warn"
    assert "is gone, and did not sign off" in found["worker"]["message"]


def test_a_worker_of_another_machine_that_fell_silent_is_a_warning(
    examine, app, database_url
):
    register(app, machine="elsewhere")
    age(database_url, "workers", "expires_at", 3600)
    found, _ = examine()

    assert found["worker"]["verdict"] == "warn"
    assert "is silent: heard of" in found["worker"]["message"]


def test_a_worker_that_was_declared_dead_is_a_warning(examine, app):
    register(app)
    app.database.run(workers.bury("6e9dbd63-9dc5-4a5a-8eb0-8e8d6c1e3a01", beat=0))
    found, _ = examine()

    assert "died" in found["worker"]["message"]
    assert found["workers"]["message"] == "none is running"


def test_a_queue_that_no_worker_serves_is_a_warning(examine, app, run):
    register(app)
    app.send_task("tests.add", queue="mail\x1b[31m")
    found, _ = examine()
    shown = run("doctor").stdout

    assert found["queue"]["verdict"] == "warn"
    assert found["queue"]["data"]["waiting"] == 1
    assert "no worker serves it" in found["queue"]["message"]
    assert r"worker -Q 'mail\x1b[31m'" in shown
    assert "\x1b" not in shown


def test_an_old_job_is_a_warning_though_a_worker_serves_its_queue(
    examine, app, database_url
):
    register(app)
    app.send_task("tests.add")
    assert examine()[0]["queue"]["verdict"] == "ok"
    age(database_url, "jobs", "scheduled_at", 3600)
    found, _ = examine()

    assert found["queue"]["verdict"] == "warn"
    assert found["queue"]["data"]["age"] > 3500


def test_due_jobs_that_nobody_made_available_are_a_warning(examine, app, database_url):
    register(app)
    app.send_task("tests.add", countdown=3600)
    age(database_url, "jobs", "scheduled_at", 7200)
    found, _ = examine()

    assert found["due jobs"]["data"]["jobs"] == 1


def test_an_old_transaction_is_a_warning(examine, app, database_url, monkeypatch):
    register(app)
    monkeypatch.setattr("pgtasks.cli.work.OLD_TRANSACTION", 0.0)
    with psycopg.connect(database_url, application_name="forgetful") as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select 1")
        found, _ = examine()

    assert found["transactions"]["verdict"] == "warn"
    assert "forgetful" in found["transactions"]["message"]


def test_the_embedded_server_is_named_as_such(pgtasks):
    shown = pgtasks("-A", "tasks", "doctor", PGTASKS_LINGER="0")

    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "the embedded server: for development only, never for production" in shown.stdout
    assert "ok    tables" in shown.stdout


def age(url: str, table: str, column: str, seconds: float) -> None:
    """Move a time into the past."""
    with psycopg.connect(url) as connection:
        connection.execute(
            f"update pgtasks.{table} set {column} = {column} - make_interval(secs => {seconds})"
        )
