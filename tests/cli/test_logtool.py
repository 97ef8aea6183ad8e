"""``pgtasks logtool`` on the logs of workers: Celery's, old and new, and ours."""

from __future__ import annotations

import json

import pytest

LOG = """\
[2026-01-31 10:00:00,001: INFO/MainProcess] celery@one ready.
[2026-01-31 10:00:00,002: INFO/MainProcess] Task shop.mail[1a] received
[2026-01-31 10:00:00,003: INFO/MainProcess] Task shop.mail[2b] received
[2026-01-31 10:00:00,004: INFO/MainProcess] Task shop.charge[3c] received
[2026-01-31 10:00:00,104: INFO/ForkPoolWorker-1] Task shop.mail[1a] succeeded in 0.1s: None
[2026-01-31 10:00:00,204: ERROR/Worker-2] Task shop.charge[3c] raised unexpected: ValueError('no')
Traceback (most recent call last):
  File "shop.py", line 1, in charge
ValueError: no
[2026-01-31 10:00:00,304: INFO/ForkPoolWorker-1] Task shop.mail[2b] retry: Retry in 3s: OSError()
[2026-01-31 10:00:03,304: INFO/MainProcess] Task shop.mail[2b] received
[2026-01-31 10:00:03,404: WARNING/MainProcess] Something else
[2026-01-31 10:00:03,504: INFO/MainProcess] Task shop.report[4d] received
[2026-01-31 10:00:03,604: INFO/ForkPoolWorker-1] Task shop.report[4d] ignored
[2026-01-31 10:00:03,704: INFO/MainProcess] Task shop.report[5e] received
[2026-01-31 10:00:03,804: INFO/MainProcess] Discarding revoked task: shop.report[5e]
"""
OLD = """\
[2012-01-31 10:00:00,002: INFO/MainProcess] Received task: shop.mail[1a] eta:[2012-01-31]
[2012-01-31 10:00:00,002: INFO/MainProcess] Received task: shop.mail[2b]
[2012-01-31 10:00:00,104: INFO/MainProcess] Task shop.mail[1a] succeeded in 0.1s: None
"""


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "worker.log"
    path.write_text(LOG)
    return str(path)


def test_tasks_are_counted_by_what_became_of_them(run, log):
    found = json.loads(run("logtool", "stats", log, "--json").stdout)
    lines = run("logtool", "stats", log).stdout.splitlines()

    assert found["tasks"]["shop.mail"] == {
        "total": 2, "succeeded": 1, "failed": 0, "ignored": 0, "revoked": 0,
        "incomplete": 1, "retries": 1,
    }  # fmt: skip
    assert (found["total"], found["failed"], found["ignored"], found["revoked"]) == (
        5,
        1,
        1,
        1,
    )
    assert lines[1].split() == ["shop.mail", "2", "1", "0", "0", "0", "1", "1"]
    assert lines[-1].split() == ["all", "5", "1", "1", "1", "1", "1", "1"]


def test_tracebacks_stand_below_their_line(run, log):
    assert run("logtool", "traces", log).stdout == "\n".join(LOG.splitlines()[5:9]) + "\n"


def test_lines_of_failures_and_of_other_things_are_found(run, log):
    lines = LOG.splitlines()

    assert run("logtool", "errors", log).stdout == f"{lines[5]}\n"
    assert run("logtool", "debug", log).stdout == f"{lines[0]}\n{lines[11]}\n"
    assert json.loads(run("logtool", "errors", log, "-j").stdout) == [lines[5]]


def test_what_has_not_ended_is_found(run, log):
    assert run("logtool", "incomplete", log).stdout == "Did not complete: shop.mail[2b]\n"
    assert json.loads(run("logtool", "incomplete", log, "--json").stdout) == [
        {"id": "2b", "task": "shop.mail"}
    ]


def test_logs_of_old_are_read_and_the_standard_input_too(run):
    found = json.loads(run("logtool", "stats", "-j", input=OLD).stdout)

    assert (found["total"], found["succeeded"], found["incomplete"]) == (2, 1, 1)


def test_control_characters_of_a_log_are_escaped(run, tmp_path):
    path = tmp_path / "x.log"
    path.write_bytes(b"[2026-01-31 10:00:00,001: INFO/MainProcess] \x1b[31mred \xff\n")

    assert r"\x1b[31mred" in run("logtool", "debug", str(path)).stdout


def test_a_log_that_is_not_there_is_said_so(run, tmp_path):
    refused = run("logtool", "stats", str(tmp_path / "none.log"))

    assert refused.exit_code == 66


def test_the_log_of_a_worker_of_ours_is_read(run, live):
    results = [live.app.send_task("tasks.add", (1, 2)) for _ in range(3)]
    results.append(live.app.send_task("tasks.divide", (1, 0)))
    for result in results:
        result.get(timeout=30, propagate=False)
    from helpers import eventually

    def counted():
        found = json.loads(run("logtool", "stats", str(live.worker.path), "-j").stdout)
        return (found["tasks"].get("tasks.add"), found["tasks"].get("tasks.divide"))

    def all_of_them():
        added, divided = counted()
        assert added is not None
        assert divided is not None
        assert (added["succeeded"], divided["failed"]) == (3, 1)
        return True

    eventually(all_of_them, timeout=30)
    assert "ZeroDivisionError" in run("logtool", "traces", str(live.worker.path)).stdout
