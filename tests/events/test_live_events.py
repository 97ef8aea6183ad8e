"""What a worker that runs tells of its tasks and of itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

import fix_postgres
from helpers import children, eventually
from pgtasks import Celery, chain
from pgtasks.contrib.testing.worker import start_worker

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from cli_helpers import LiveWorker, write

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]

TASKS = """
import os
import time
from pathlib import Path

from pgtasks import Celery
from pgtasks.exceptions import Ignore, Reject

app = Celery("tasks")
app.conf.task_send_sent_event = True


@app.task
def add(x, y=0):
    return x + y


@app.task
def divide(x, y):
    return x / y


@app.task(bind=True, max_retries=1, default_retry_delay=0)
def again(self):
    if not self.request.retries:
        raise self.retry(exc=KeyError("not yet"))
    return {"tries": 2}


@app.task
def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.01)
    return "seen"


@app.task
def die():
    os._exit(3)


@app.task(ignore_result=True)
def quiet(x):
    return x


@app.task(send_events=False)
def secret():
    return 1


@app.task(bind=True)
def tell(self):
    self.send_event("task-packed", boxes=3)


@app.task
def ignored():
    raise Ignore()


@app.task
def rejected():
    raise Reject("no", requeue=False)
"""

WIRE = {"type", "hostname", "pid", "timestamp", "utcoffset", "clock", "local_received"}
FIELDS = {
    "task-sent": {
        "uuid", "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta",
        "expires", "queue", "exchange", "routing_key",
    },
    "task-received": {
        "uuid", "name", "args", "kwargs", "root_id", "parent_id", "retries", "eta",
        "expires",
    },
    "task-started": {"uuid"},
    "task-succeeded": {"uuid", "result", "runtime"},
    "task-failed": {"uuid", "exception", "traceback"},
    "task-retried": {"uuid", "exception", "traceback"},
    "task-rejected": {"uuid", "requeue"},
    "task-revoked": {"uuid", "terminated", "signum", "expired"},
}  # fmt: skip
LIFE = {"freq", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys"}


class Watch:
    """A receiver in a thread, and what it has heard."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.heard: list[dict[str, Any]] = []
        self.receiver = app.events.Receiver(
            app.connection(), handlers={"*": self.heard.append}
        )
        self.receiver.queue.declare()
        self._thread = threading.Thread(target=self.receiver.capture, daemon=True)
        self._thread.start()

    def of(self, result: Any) -> list[dict[str, Any]]:
        return [event for event in list(self.heard) if event.get("uuid") == result.id]

    def types(self, result: Any) -> list[str]:
        return [event["type"] for event in self.of(result)]

    def await_(self, result: Any, type: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            matching = [event for event in self.of(result) if event["type"] == type]
            return matching[-1] if matching else None

        event = eventually(found, 60, lambda: f"{self.types(result)}: no {type}")
        assert event is not None
        return event

    def close(self) -> None:
        self.receiver.should_stop = True
        self._thread.join(30)
        self.receiver.close()


@pytest.fixture(scope="module")
def live(
    postgres: Any, template: str, _names: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("live")
    write(folder / "tasks.py", TASKS)
    database = f"{_names}_events"
    with fix_postgres._database(postgres, database, template):
        url = postgres.url_of(database)
        worker = LiveWorker(folder, url, "-n", "live@here", "-c", "2", "-E")
        app = Celery("live", broker=url, set_as_current=False)
        watch = Watch(app)
        # From here on the worker knows that somebody listens.
        eventually(lambda: watch.heard, 60, worker.log)
        try:
            yield SimpleNamespace(
                app=app, watch=watch, worker=worker, folder=folder, url=url,
                send=lambda name, *args, **options: app.send_task(
                    f"tasks.{name}", args, **options
                ),
            )  # fmt: skip
        finally:
            watch.close()
            app.close()
            worker.stop()


def test_a_task_is_told_of_from_its_arrival_to_its_end(live: Any) -> None:
    result = live.send("add", 1, kwargs={"y": 2})
    end = live.watch.await_(result, "task-succeeded")

    assert live.watch.types(result) == ["task-received", "task-started", "task-succeeded"]
    received, started, _ = live.watch.of(result)
    assert (received["name"], received["args"], received["kwargs"]) == (
        "tasks.add", "(1,)", "{'y': 2}",
    )  # fmt: skip
    assert (end["result"], end["hostname"]) == ("3", "live@here")
    assert end["runtime"] > 0
    assert end["pid"] == live.worker.process.pid
    assert received["clock"] < started["clock"] < end["clock"]
    # What is told to have succeeded has a result that can be read.
    assert live.app.AsyncResult(result.id).result == 3


def test_every_event_has_celerys_fields(live: Any) -> None:
    for name, *args in (("add", 1), ("divide", 1, 0), ("again",), ("rejected",)):
        live.watch.await_(live.send(name, *args), "task-received")
    revoked = live.send("add", 1, expires=-1)
    live.watch.await_(revoked, "task-revoked")
    types = {"task-failed", "task-retried", "task-rejected", "task-succeeded"}
    eventually(lambda: types <= {event["type"] for event in live.watch.heard}, 60)

    for event in live.watch.heard:
        group, _, subject = event["type"].partition("-")
        if group == "worker":
            assert set(event) == WIRE | LIFE, event["type"]
        elif subject != "packed":
            assert set(event) == WIRE | FIELDS[event["type"]], event["type"]


def test_a_failure_is_told_with_its_traceback(live: Any) -> None:
    event = live.watch.await_(live.send("divide", 1, 0), "task-failed")

    assert event["exception"] == "ZeroDivisionError('division by zero')"
    assert "return x / y" in event["traceback"]


def test_a_retry_is_told_and_the_second_try_too(live: Any) -> None:
    result = live.send("again")
    end = live.watch.await_(result, "task-succeeded")

    assert live.watch.types(result) == [
        "task-received", "task-started", "task-retried",
        "task-received", "task-started", "task-succeeded",
    ]  # fmt: skip
    retried, again = live.watch.of(result)[2:4]
    assert retried["exception"] == "KeyError('not yet')"
    assert again["retries"] == 1
    assert end["result"] == "{'tries': 2}"


def test_a_long_task_is_told_to_have_begun_while_it_runs(live: Any, tmp_path: Path) -> None:
    result = live.send("wait_for", str(tmp_path / "go"))
    live.watch.await_(result, "task-started")
    assert live.watch.types(result) == ["task-received", "task-started"]
    (tmp_path / "go").touch()
    live.watch.await_(result, "task-succeeded")

    assert live.watch.types(result).count("task-started") == 1


def test_a_task_that_is_terminated_is_told_to_be_revoked(live: Any, tmp_path: Path) -> None:
    result = live.send("wait_for", str(tmp_path / "never"))
    live.watch.await_(result, "task-started")
    live.app.control.revoke(result.id, terminate=True)
    event = live.watch.await_(result, "task-revoked")

    assert (event["terminated"], event["signum"], event["expired"]) == (
        True, signal.SIGTERM, False,
    )  # fmt: skip


def test_a_task_whose_process_dies_is_told_to_have_failed(live: Any) -> None:
    event = live.watch.await_(live.send("die"), "task-failed")

    assert event["exception"].startswith("WorkerLostError(")
    assert "exitcode 3" in event["exception"]


def test_a_result_that_is_not_kept_is_told_all_the_same(live: Any) -> None:
    assert live.watch.await_(live.send("quiet", 5), "task-succeeded")["result"] == "5"


def test_a_task_may_be_kept_out_of_it(live: Any) -> None:
    result = live.send("secret")
    live.watch.await_(live.send("add", 1), "task-succeeded")
    assert result.get(timeout=60) == 1
    live.watch.await_(live.send("add", 2), "task-succeeded")

    assert live.watch.types(result) == []


def test_secrets_are_shown_as_their_sender_says(live: Any) -> None:
    result = live.send("add", 1, argsrepr="(***)", kwargsrepr="{…}")
    event = live.watch.await_(result, "task-received")

    assert (event["args"], event["kwargs"]) == ("(***)", "{…}")


def test_a_task_tells_things_of_its_own(live: Any) -> None:
    result = live.send("tell")
    event = live.watch.await_(result, "task-packed")

    assert (event["boxes"], event["hostname"]) == (3, "live@here")


def test_one_that_wants_to_be_ignored_has_no_end(live: Any) -> None:
    result = live.send("ignored")
    live.watch.await_(live.send("add", 1), "task-succeeded")
    eventually(lambda: live.app.jobs.get(result.id).finished_at, 60)
    live.watch.await_(live.send("add", 2), "task-succeeded")

    assert set(live.watch.types(result)) <= {"task-received", "task-started"}


def test_the_next_link_of_a_chain_is_told_to_be_sent(live: Any) -> None:
    links = chain(
        live.app.signature("tasks.add", (1,)), live.app.signature("tasks.add", (2,))
    )
    last = links.apply_async()
    event = live.watch.await_(last, "task-sent")

    assert (event["args"], event["parent_id"]) == ("(1, 2)", last.parent.id)
    assert event["hostname"] == "live@here"


def test_the_worker_tells_that_it_lives(live: Any) -> None:
    def beats() -> list[dict[str, Any]]:
        return [each for each in live.watch.heard if each["type"] == "worker-heartbeat"]

    before = len(beats())
    event = eventually(lambda: beats()[before:], 60)[0]

    assert (event["freq"], event["sw_ident"]) == (2.0, "py-pgtasks")
    assert len(event["loadavg"]) == 3
    assert event["active"] == 0
    assert "live@here" in {each["hostname"] for each in beats()}


def test_the_picture_of_it_has_tasks_and_workers(live: Any) -> None:
    state = live.app.events.State()
    receiver = live.app.events.Receiver(live.app.connection(), handlers={"*": state.event})
    receiver.queue.declare()
    result = live.send("add", 3)
    while result.id not in state.tasks or not state.tasks[result.id].ready:
        receiver.capture(limit=1, timeout=60)
    receiver.close()
    task = state.tasks[result.id]

    assert (task.state, task.name, task.result) == ("SUCCESS", "tasks.add", "3")
    assert task.worker.hostname == "live@here"
    assert [each.hostname for each in state.alive_workers()] == ["live@here"]


def test_a_slow_receiver_harms_nobody(live: Any) -> None:
    slow = live.app.events.Receiver(live.app.connection())
    slow.queue.declare()
    live.watch.await_(live.send("add", 1), "task-succeeded")
    assert live.send("add", 4).get(timeout=60) == 4
    slow.close()


def test_children_that_die_leave_the_events_alone(live: Any) -> None:
    for pid in children(live.worker.process.pid):
        os.kill(pid, signal.SIGKILL)

    live.watch.await_(live.send("add", 1), "task-succeeded")


def test_connections_that_are_lost_are_made_anew(live: Any) -> None:
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )

    live.watch.await_(live.send("add", 1, retry=True), "task-succeeded")


def test_a_worker_that_comes_and_goes_says_so(live: Any) -> None:
    folder = live.folder / "second"
    write(folder / "tasks.py", TASKS)
    second = LiveWorker(folder, live.url, "-n", "second@here", "-c", "1", "-P", "threads")

    def told() -> list[str]:
        return [
            each["type"] for each in live.watch.heard if each["hostname"] == "second@here"
        ]

    eventually(lambda: "worker-online" in told(), 60)
    second.stop()
    eventually(lambda: "worker-offline" in told(), 60)

    # Without -E it tells of itself, and of no task.
    assert {each.partition("-")[0] for each in told()} == {"worker"}


def test_with_nobody_who_listens_nothing_is_kept(database_url: str, tmp_path: Path) -> None:
    write(tmp_path / "tasks.py", TASKS.replace("task_send_sent_event = True", "x = 1"))
    before = _numbers_taken(database_url)
    worker = LiveWorker(tmp_path, database_url, "-n", "alone@here", "-c", "1", "-E")
    with Celery("alone", broker=database_url, set_as_current=False) as app:
        assert app.send_task("tasks.add", (1,)).get(timeout=60) == 1
    assert worker.stop() == 0

    assert _numbers_taken(database_url) == before


def _numbers_taken(url: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select last_value, is_called from pgtasks.event_ids"
        ).fetchone()


def test_events_of_tasks_may_be_switched_on_and_off(postgres_app: Celery) -> None:
    @postgres_app.task(name="add", shared=False)
    def add(x: int) -> int:
        return x

    watch = Watch(postgres_app)
    try:
        with start_worker(postgres_app, pool="threads", perform_ping_check=False) as worker:
            eventually(lambda: watch.heard, 60)
            unheard = add.delay(1)
            assert unheard.get(timeout=60) == 1
            # Its end can be read a moment before it is crossed out in the worker's books.
            eventually(lambda: not worker.held(), 60)
            dispatcher = worker.consumer.event_dispatcher
            dispatcher.groups.add("task")
            result = add.delay(2)
            assert watch.await_(result, "task-succeeded")["result"] == "2"
            dispatcher.disable()
            silent = add.delay(3)
            assert silent.get(timeout=60) == 3
            eventually(lambda: not worker.held(), 60)
            dispatcher.enable()
            watch.await_(add.delay(4), "task-succeeded")
    finally:
        watch.close()

    assert watch.types(result) == ["task-received", "task-started", "task-succeeded"]
    assert watch.types(unheard) == watch.types(silent) == []


def test_a_fault_in_telling_harms_no_job(
    postgres_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    @postgres_app.task(name="add", shared=False)
    def add(x: int) -> int:
        return x

    called: list[Any] = []

    def broken(*args: Any) -> Any:
        called.append(args)
        raise RuntimeError("a fault of ours")

    watch = Watch(postgres_app)
    try:
        with start_worker(
            postgres_app, pool="threads", perform_ping_check=False, task_events=True
        ):
            eventually(lambda: watch.heard, 60)
            with monkeypatch.context() as patch:
                patch.setattr("pgtasks.worker.news.received", broken)
                assert add.delay(1).get(timeout=60) == 1
                eventually(lambda: called, 60)
            watch.await_(add.delay(2), "task-succeeded")
    finally:
        watch.close()
