"""What is counted, who shows it, and in which words."""

from __future__ import annotations

import threading
import urllib.request

import pytest
from click.testing import CliRunner

from pgtasks.cli.invocation import Invocation
from pgtasks.cli.main import program
from pgtasks.contrib import prometheus
from pgtasks.job import NewJob
from pgtasks.plugins.metrics import Metrics
from pgtasks.storage import jobs, upkeep, workers


@pytest.fixture
def busy(house):
    """Two jobs wait, one is scheduled, three have ended, one worker lives."""
    house.app.database.run(
        jobs.insert(
            [
                NewJob("t", "a", queue="mail"),
                NewJob("t", "b", queue="mail"),
                NewJob("t", "c", queue='odd"\n\\queue', delay=60.0),
            ]
        )
    )
    house.rows(
        "update pgtasks.jobs set scheduled_at = now() - interval '1 h' where task_id = 'a'"
    )
    house.finished(3, 1.0, queue="mail")
    house.finished(9, 3600.0, queue="mail")
    house.app.database.run(
        workers.register(
            id="00000000-0000-0000-0000-000000000001", name="celery@one", hostname="h", pid=1,
            machine="m", process_started=1.0, begun_file=None, lease=60.0, queues=["mail"],
            pool="solo", concurrency=4, version="0", info={},
        )
    )  # fmt: skip
    return house


def test_the_leader_counts_for_all(busy):
    done = busy.lead(Metrics).run()
    kept = busy.app.database.run(upkeep.kept("jobs"))

    found = {(each["queue"], each["state"]): each for each in kept.document["jobs"]}
    assert done == {"queue_count": 2, "worker_count": 1}
    assert found["mail", "available"]["count"] == 2
    assert 3599 < found["mail", "available"]["age"] < 3700
    assert found['odd"\n\\queue', "scheduled"]["age"] == 0
    assert kept.document["ended"] == [{"queue": "mail", "state": "completed", "rate": 0.3}]
    assert kept.age < 60


def test_who_leads_no_longer_keeps_nothing(busy):
    plugin = busy.lead(Metrics)
    busy.stand()
    plugin.run()

    assert busy.app.database.run(upkeep.kept("jobs")) is None


def test_dates_beyond_all_clocks_do_not_stop_the_count(house):
    house.rows(
        "insert into pgtasks.jobs (task, task_id, scheduled_at) "
        "values ('t', 'a', '-infinity'), ('t', 'b', 'infinity')"
    )

    assert house.lead(Metrics).run()["queue_count"] == 1


def test_prometheus_is_given_text(busy):
    empty = prometheus.render(busy.app)
    busy.lead(Metrics).run()
    lines = prometheus.render(busy.app).splitlines()

    assert "pgtasks_up 0.0" in empty.splitlines()
    assert "pgtasks_up 1.0" in lines
    assert 'pgtasks_jobs{queue="mail",state="available"} 2.0' in lines
    assert 'pgtasks_jobs{queue="odd\\"\\n\\\\queue",state="scheduled"} 1.0' in lines
    assert 'pgtasks_finished_jobs_per_second{queue="mail",state="completed"} 0.3' in lines
    assert 'pgtasks_worker_slots{node="celery@one"} 4.0' in lines
    assert 'pgtasks_leader{office="plugins",node="celery@test",term="1"} 1.0' in lines
    for line in lines:
        assert line.startswith("# ") or len(line.rsplit(" ", 1)) == 2


def test_prometheus_may_ask_by_http(busy):
    busy.lead(Metrics).run()
    server = prometheus.serve(busy.app, port=0)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{server.server_port}/metrics", timeout=10
        ) as answer:
            kind, text = answer.headers["Content-Type"], answer.read().decode()
    finally:
        thread.join(10)
        server.server_close()

    assert kind == prometheus.CONTENT_TYPE
    assert "pgtasks_workers 1.0\n" in text


def test_status_says_who_leads_since_when_and_for_which_term(busy):
    busy.stand()
    answer = CliRunner().invoke(
        program,
        ["status", "--timeout", "0.2"],
        obj=Invocation(named=busy.app),
        prog_name="pgtasks",
    )

    assert "celery@test has led the plugins for 0 s (term 1)." in answer.output, (
        answer.output
    )
