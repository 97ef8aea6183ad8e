"""Every signal of a worker that runs: that it is sent, where, by whom and with what."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet
from helpers import eventually
from pgtasks.job import NewJob
from pgtasks.storage import jobs

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]

#: What Celery sends while a worker runs: the sender's type or name, and the arguments.
TASK = {
    "task_prerun": ["args", "kwargs", "task", "task_id"],
    "task_postrun": ["args", "kwargs", "retval", "state", "task", "task_id"],
    "task_success": ["result", "runtime"],
    "task_failure": ["args", "einfo", "exception", "kwargs", "task_id", "traceback"],
    "task_retry": ["einfo", "reason", "request"],
    "task_revoked": ["expired", "request", "signum", "terminated"],
    "task_internal_error": [
        "args", "einfo", "exception", "kwargs", "request", "task_id", "traceback",
    ],
}  # fmt: skip
CONSUMER = {
    "task_received": ["request"],
    "task_unknown": ["exc", "id", "message", "name"],
    "task_rejected": ["exc", "message"],
    "worker_ready": [],
}
NODE = {
    "celeryd_init": ["conf", "instance", "options"],
    "celeryd_after_setup": ["conf", "instance"],
    "worker_process_init": [],
    "worker_shutting_down": ["exitcode", "how", "sig"],
}
PUBLISHING = {
    "before_task_publish": [
        "body", "declare", "exchange", "headers", "properties", "retry_policy",
        "routing_key",
    ],
    "after_task_publish": ["body", "exchange", "headers", "routing_key"],
}  # fmt: skip
LOGGING = ["colorize", "format", "logfile", "logger", "loglevel"]


class Heard:
    """What the application's receivers have told."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, list[dict[str, Any]]]:
        told: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                each = json.loads(line)
                told[each["signal"]].append(each)
        return told

    def expect(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        eventually(lambda: len(self.all()[name]) >= count, message=lambda: str(self.all()))
        return self.all()[name]


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    return Heard(tmp_path / "heard")


def send(fleet: Fleet, name: str, **fields: Any) -> str:
    job = NewJob(name, os.urandom(8).hex(), queue="journey", **{"args": "[]", **fields})
    fleet.database.run(jobs.insert([job]))
    return job.task_id


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_sends_celerys_signals(fleet: Fleet, heard: Heard, tmp_path: Path, pool):
    environment = {"HEARD": str(tmp_path / "heard")}
    worker = fleet.start("-P", pool, "-c", "1", app="listener", **environment)
    ids = [
        send(fleet, f"listener.{name}") for name in ("succeed", "fail", "again", "internal")
    ]
    ids.append(send(fleet, "listener.never", expires="2020-01-01T00:00:00Z"))
    ids.append(send(fleet, "nobody.knows"))
    ids.append(send(fleet, "listener.succeed", args="[1"))
    fleet.wait(ids)
    heard.expect("task_success", 3)
    heard.expect("heartbeat_sent", 2)
    fleet.stop(worker)
    told = heard.all()

    runs_in = told["worker_process_init"][0]["pid"]
    assert (runs_in == worker.pid) == (pool == "solo")
    for name, keys in TASK.items():
        first = told[name][0]
        assert (first["keys"], first["pid"]) == (keys, runs_in), name
        assert first["sender"].startswith("listener."), name
    assert told["task_internal_error"][0]["sender"] == "listener.internal"
    assert told["task_revoked"][0]["sender"] == "listener.never"
    for name, keys in CONSUMER.items():
        first = told[name][0]
        assert (first["type"], first["host"]) == ("Consumer", "w0@journey"), name
        assert first["keys"] == keys, name
    for name, keys in NODE.items():
        assert (told[name][0]["sender"], told[name][0]["keys"]) == ("w0@journey", keys), (
            name
        )
    for name, keys in PUBLISHING.items():
        # What the task sends; the retry of the other is no new message.
        assert (told[name][0]["sender"], told[name][0]["keys"]) == ("listener.follow", keys)
    for name in ("worker_init", "worker_shutdown"):
        assert (told[name][0]["type"], told[name][0]["host"]) == ("Worker", "w0@journey")
    for name in ("after_setup_logger", "after_setup_task_logger"):
        assert (told[name][0]["type"], told[name][0]["keys"]) == ("NoneType", LOGGING)
    for name in ("app.on_configure", "app.on_after_configure", "app.on_after_finalize"):
        assert told[name][0]["type"] == "Celery", name
    assert told["import_modules"][0]["type"] == "Celery"
    received = [each["task"] for each in told["task_received"]]
    assert received.count("listener.again") == 2
    assert {each["pid"] for each in told["task_received"]} == {worker.pid}
    assert {each["pid"] for each in told["heartbeat_sent"]} == {worker.pid}
    assert told["heartbeat_sent"][0]["type"] in ("Heartbeat", "Keeper")


def test_a_process_that_is_copied_hears_of_it_and_each_child_of_its_end(
    fleet: Fleet, heard: Heard, tmp_path: Path
):
    worker = fleet.start(
        "-c", "2", "--max-tasks-per-child", "1",
        app="listener", HEARD=str(tmp_path / "heard"),
    )  # fmt: skip
    fleet.wait([send(fleet, "listener.follow")])
    heard.expect("worker_process_init", 3)
    heard.expect("worker_process_shutdown", 1)
    fleet.stop(worker)
    told = heard.all()

    copied = told["worker_before_create_process"]
    assert {each["type"] for each in copied} == {"PreforkPool"}
    # The worker for the template, and that for each child.
    assert [each["pid"] for each in copied].count(worker.pid) == 1
    assert len(copied) == 1 + len(told["worker_process_init"])
    ends = told["worker_process_shutdown"]
    assert {each["sender"] for each in ends} == {"w0@journey"}
    assert ends[0]["keys"] == ["exitcode", "pid"]
    born = {each["pid"] for each in told["worker_process_init"]}
    assert {each["pid"] for each in ends} <= born


def test_who_hears_of_logging_sets_it_up(fleet: Fleet, heard: Heard, tmp_path: Path):
    environment = {"HEARD": str(tmp_path / "heard"), "HEAR_SETUP_LOGGING": "1"}
    # Without logging nobody says "ready", but for the test's own ears.
    fleet._is_ready = lambda *args: bool(heard.all()["worker_ready"])  # type: ignore[method-assign]
    fleet.start("-P", "solo", app="listener", **environment)
    told = heard.all()

    assert told["setup_logging"][0]["keys"] == ["colorize", "format", "logfile", "loglevel"]
    assert not told["after_setup_logger"]


def test_a_revoked_task_that_runs_is_told_of_by_the_worker(
    fleet: Fleet, heard: Heard, tmp_path: Path
):
    worker = fleet.start("-c", "1", app="listener", HEARD=str(tmp_path / "heard"))
    from pgtasks import Celery

    task_id = send(fleet, "listener.sleep")
    heard.expect("task_prerun")
    with Celery("client", broker=fleet.url, set_as_current=False) as app:
        app.control.revoke(task_id, terminate=True, signal="SIGKILL")
    [revoked] = heard.expect("task_revoked")

    assert (revoked["sender"], revoked["pid"]) == ("listener.sleep", worker.pid)
    assert fleet.wait([task_id]) == {task_id: "cancelled"}


# ── a process that is lost, and counts as a retry ───────────────────────────────────────


def runs(heard: Heard) -> list[int]:
    return [each["retries"] for each in heard.all()["ran"]]


def test_a_lost_process_counts_as_a_retry(fleet: Fleet, heard: Heard, tmp_path: Path):
    worker = fleet.start("-c", "1", app="listener", HEARD=str(tmp_path / "heard"))
    task_id = send(fleet, "listener.dies", args="[1]")

    assert fleet.wait([task_id]) == {task_id: "completed"}
    assert runs(heard) == [0, 1]
    [retry] = heard.all()["task_retry"]
    assert (retry["sender"], retry["pid"]) == ("listener.dies", worker.pid)
    error = fleet.errors(task_id)[-1]
    assert error["kind"] == "WorkerLostError"
    assert "signal 9 (SIGKILL)" in error["message"]


def test_a_task_without_retries_left_fails_when_its_process_is_lost(
    fleet: Fleet, heard: Heard, tmp_path: Path
):
    fleet.start("-c", "1", app="listener", HEARD=str(tmp_path / "heard"))
    task_id = send(fleet, "listener.dies", args="[9]")

    assert fleet.wait([task_id]) == {task_id: "discarded"}
    assert runs(heard) == [0, 1, 2]
    assert fleet.errors(task_id)[-1]["kind"] == "WorkerLostError"
    assert len(heard.all()["task_failure"]) == 1


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_leaves_its_process_is_retried_likewise(
    fleet: Fleet, heard: Heard, tmp_path: Path, pool: str
):
    fleet.start("-c", "1", "-P", pool, app="listener", HEARD=str(tmp_path / "heard"))
    task_id = send(fleet, "listener.leaves")

    assert fleet.wait([task_id]) == {task_id: "discarded"}
    assert runs(heard) == [0, 1]
