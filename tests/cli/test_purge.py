from __future__ import annotations

import json

import psycopg

from pgtasks.storage import jobs, workers


def left(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [
            q for (q,) in connection.execute("select queue from pgtasks.jobs order by 1")
        ]


def test_the_queues_of_the_application_are_purged(run, app, database_url):
    for queue in ("celery", "celery", "mail"):
        app.send_task("tests.add", queue=queue)
    app.send_task("tests.add", countdown=600)
    purged = run("purge", "-f")

    assert purged.exit_code == 0, purged.stderr
    assert purged.stdout == "Purged 3 jobs from the queue celery.\n"
    assert left(database_url) == ["mail"]


def test_it_asks_first_and_a_no_changes_nothing(run, app, database_url):
    app.send_task("tests.add")
    refused = run("purge", input="n\n")
    agreed = run("purge", input="y\n")

    assert refused.exit_code == 1
    assert "this deletes all 1 waiting jobs of the queue celery" in refused.stdout
    assert agreed.exit_code == 0
    assert left(database_url) == []


def test_queues_are_chosen_and_left_out(run, app, database_url):
    for queue in ("a", "b", "c"):
        app.send_task("tests.add", queue=queue)
    purged = run("purge", "-f", "-Q", "a,b", "-X", "b", "--json")

    assert json.loads(purged.stdout) == {"queues": ["a"], "deleted": 1}
    assert left(database_url) == ["b", "c"]


def test_more_jobs_than_one_statement_deletes_are_purged(run, app, database_url):
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into pgtasks.jobs (task, task_id) "
            "select 'tests.add', 'many-' || n from generate_series(1, 2500) as n"
        )
    purged = run("purge", "-f")

    assert purged.stdout == "Purged 2,500 jobs from the queue celery.\n"


def test_running_jobs_stay(run, app, database_url):
    app.send_task("tests.add")
    worker = "6e9dbd63-9dc5-4a5a-8eb0-8e8d6c1e3a01"
    app.database.run(
        workers.register(
            id=worker, name="w", hostname="h", pid=1, machine="m", process_started=0.0,
            begun_file=None, lease=60.0, queues=["celery"], pool="threads", concurrency=1,
            version="0", info={},
        )
    )  # fmt: skip
    app.database.run(
        jobs.fetch({"celery": jobs.LOWEST}, demand=1, worker=worker, token=worker)
    )
    purged = run("purge", "-f")

    assert purged.stdout == "No jobs purged from the queue celery.\n"
    assert left(database_url) == ["celery"]


def test_a_queue_cannot_forge_lines_of_output(run, app):
    app.send_task("tests.add", queue="a\nPurged all")
    purged = run("purge", "-f", "-Q", "a\nPurged all")

    assert purged.stdout == "Purged 1 job from the queue a\\nPurged all.\n"


def test_declared_queues_are_the_applications(run, app, database_url):
    from kombu import Queue

    app.conf.task_queues = [Queue("a"), Queue("b")]
    for queue in ("a", "b", "c"):
        app.send_task("tests.add", queue=queue)
    run("purge", "-f")

    assert left(database_url) == ["c"]
