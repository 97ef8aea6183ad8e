"""The commands that a worker understands, asked of one that runs, and what it replies."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest

import fix_postgres
from helpers import eventually
from pgtasks import Celery
from pgtasks.exceptions import TaskRevokedError
from pgtasks.worker import control, revocation, state
from pgtasks.worker.control import Panel
from pgtasks.worker.panel import CommandRefused
from pgtasks.worker.worker import Worker

NODE = "w@here"
ends: dict[str, threading.Event] = {}
seen: list[str] = []


@pytest.fixture(scope="module")
def worker(postgres: Any, template: str, _names: str) -> Iterator[Worker]:
    """A worker with two threads, for as long as the module's tests run."""
    database = f"{_names}_commands"
    with fix_postgres._database(postgres, database, template):
        url = postgres.url_of(database)
        with Celery("commands", broker=url, set_as_current=False) as app:

            @app.task(name="t.add", shared=False)
            def add(x: int, y: int) -> int:
                return x + y

            @app.task(name="t.note", shared=False)
            def note(word: str) -> str:
                seen.append(word)
                return word

            @app.task(name="t.limited", rate_limit="2/m", shared=False)
            def limited(word: str) -> str:
                return word

            @app.task(name="t.hold", shared=False)
            def hold(name: str, secret: Any = None) -> str:
                ends[name].wait(60)
                return name

            @app.task(name="t.again", bind=True, shared=False)
            def again(self: Any, name: str) -> None:
                ends[name].wait(60)
                raise self.retry(countdown=0.1, max_retries=5)

            ready = threading.Event()
            worker = Worker(
                app, NODE, pool="threads", concurrency=2,
                ready_callback=lambda worker: ready.set(),
            )  # fmt: skip
            thread = threading.Thread(target=worker.start, daemon=True)
            thread.start()
            assert ready.wait(30)
            try:
                yield worker
            finally:
                for end in ends.values():
                    end.set()
                worker.stop()
                thread.join(30)
                state.reset_state()
                state.revoked_stamps.clear()


@pytest.fixture
def app(worker: Worker) -> Celery:
    return worker.app


@pytest.fixture
def inspect(app: Celery) -> Any:
    return app.control.inspect(destination=NODE, timeout=30)


@pytest.fixture
def tell(app: Celery) -> Any:
    def tell(command: str, **arguments: Any) -> Any:
        [reply] = app.control.broadcast(command, arguments, reply=True, timeout=30)
        return reply[NODE]

    return tell


@pytest.fixture
def held(app: Celery, inspect: Any) -> Iterator[Any]:
    """Makes a task run until the test is over."""
    names = []

    def held(name: str, *args: Any, task: str = "t.hold", **options: Any) -> Any:
        ends[name] = threading.Event()
        names.append(name)
        result = app.send_task(task, [name, *args], task_id=name, **options)
        eventually(lambda: name in [each["id"] for each in inspect.active()], timeout=30)
        return result

    yield held
    for name in names:
        ends[name].set()
    eventually(lambda: not inspect.active(), timeout=30)


def ended(app: Celery, task_id: str) -> str | None:
    """The state in which a job is over; None if it is not, or has not come."""
    with psycopg.connect(app.conf.broker_url) as connection:
        found = connection.execute(
            "select state::text from pgtasks.finished_jobs where task_id = %s", [task_id]
        ).fetchone()
    return found and found[0]


def noted(app: Celery, task_id: str) -> bool:
    """Whether the table has its revocation."""
    with psycopg.connect(app.conf.broker_url) as connection:
        statement = "select from pgtasks.revoked_tasks where task_id = %s"
        return connection.execute(statement, [task_id]).fetchone() is not None


# ── the worker ──────────────────────────────────────────────────────────────────────────


def test_the_commands_are_celerys_with_their_arguments() -> None:
    shapes = {
        name: (info.type, [arg for arg, _ in info.args or ()], info.variadic)
        for name, info in Panel.meta.items()
    }

    assert shapes["rate_limit"] == ("control", ["task_name", "rate_limit"], None)
    assert shapes["terminate"] == ("control", ["signal"], "task_id")
    assert shapes["autoscale"] == ("control", ["max", "min"], None)
    assert shapes["objgraph"] == ("inspect", ["type", "num", "max_depth"], None)
    assert Panel.meta["objgraph"].default_timeout == 60
    assert not Panel.meta["hello"].visible
    for alias in ("dump_active", "dump_conf", "dump_reserved", "dump_revoked",
                  "dump_schedule", "dump_tasks"):  # fmt: skip
        assert alias in Panel.data


def test_ping_is_answered(tell: Any) -> None:
    assert tell("ping") == {"ok": "pong"}


def test_the_report_is_text(inspect: Any) -> None:
    assert "software -> pgtasks:" in inspect.report()["ok"]


def test_settings_are_told_those_of_the_program_too(app: Celery, inspect: Any) -> None:
    app.conf.some_word6 = "hello world"
    told = inspect.conf()

    assert told["some_word6"] == "hello world"
    assert "worker_lease" not in told
    assert inspect.conf(with_defaults=True)["worker_lease"] == app.conf.worker_lease


def test_stats_count_by_task(app: Celery, inspect: Any) -> None:
    before = inspect.stats()["total"].get("t.add", 0)
    app.send_task("t.add", [1, 1]).get(timeout=30)
    stats = inspect.stats()

    assert stats["total"]["t.add"] == before + 1
    assert stats["pid"] == os.getpid()
    assert stats["clock"].isdigit()
    assert stats["pool"]["max-concurrency"] == 2


def test_the_logical_clock_is_told(app: Celery, inspect: Any) -> None:
    before = app.clock.forward()

    assert inspect.clock()["clock"] >= before


def test_another_workers_greeting_is_answered(app: Celery, inspect: Any) -> None:
    before = app.clock.forward()
    state.revoked.add("known")
    answer = inspect.hello("george@vandelay", revoked=["told"])

    assert set(answer["revoked"]) >= {"known", "told"}
    assert answer["clock"] > before
    assert inspect.hello(NODE) is None


def test_memory_is_sampled_and_dumped(inspect: Any, monkeypatch: Any) -> None:
    assert inspect.memsample().endswith("B")
    assert "rss" in inspect.memdump(samples=2)
    monkeypatch.setattr("pgtasks.utils.debug.mem_rss", lambda: None)
    assert inspect.memsample().endswith("B")


def test_objects_are_drawn_where_there_is_a_library_for_it(
    inspect: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "objgraph", None)
    assert "install objgraph" in inspect.objgraph()["error"]
    drawn = {}
    library = SimpleNamespace(
        by_type=lambda name: [name] * 5, show_backrefs=lambda it, **how: drawn.update(how, it=it)
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "objgraph", library)
    answer = inspect.objgraph(type="Job", n=3, max_depth=4)

    assert drawn["it"] == ["Job"] * 3
    assert drawn["max_depth"] == 4
    assert drawn["filename"] == answer["filename"]
    assert drawn["highlight"](drawn["it"][0])
    assert not drawn["highlight"](object())
    os.unlink(answer["filename"])


def test_a_heartbeat_is_made_at_once(worker: Worker, tell: Any) -> None:
    bell, told = threading.Event(), []
    reporter = SimpleNamespace(beat_soon=lambda: told.append(1))
    there = SimpleNamespace(heart=SimpleNamespace(wakeup=bell), reporter=reporter)

    assert control.heartbeat(control.State(worker.app, NODE, there)) is None
    assert tell("heartbeat") is None
    assert bell.is_set()
    assert told == [1]


def test_events_of_tasks_are_enabled_and_disabled(worker: Worker, tell: Any) -> None:
    events = worker.consumer.event_dispatcher
    assert events.groups == {"worker"}

    assert tell("enable_events") == {"ok": "task events enabled"}
    assert events.groups == {"worker", "task"}
    assert tell("enable_events") == {"ok": "task events already enabled"}
    assert tell("disable_events") == {"ok": "task events disabled"}
    assert events.groups == {"worker"}
    assert tell("disable_events") == {"ok": "task events already disabled"}


def test_a_worker_that_sends_all_events_is_told_to_leave_out_those_of_tasks(
    worker: Worker, tell: Any, monkeypatch: Any
) -> None:
    # As with -E, and one that was started without heartbeats.
    monkeypatch.setattr(worker.consumer.event_dispatcher, "groups", set())

    assert tell("enable_events") == {"ok": "task events already enabled"}
    assert tell("disable_events") == {"ok": "task events disabled"}
    assert worker.consumer.event_dispatcher.groups == {"worker"}


def test_without_a_dispatcher_there_are_no_events(
    worker: Worker, tell: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(worker.consumer, "event_dispatcher", None, raising=False)

    assert "unavailable" in tell("enable_events")["error"]
    assert "unavailable" in tell("disable_events")["error"]


# ── elections ───────────────────────────────────────────────────────────────────────────


def test_one_of_the_workers_is_elected_and_does_it(worker: Worker) -> None:
    from pgtasks.worker.gossip import Elections

    done = []
    candidates = [Elections(worker) for _ in range(3)]
    for each in candidates:
        each.election_handlers["note"] = done.append
    won = [each.election("one", "note", "x") for each in candidates]

    assert (sorted(won), done) == ([False, False, True], ["x"])
    assert candidates[1].election("two", "note", "y")


def test_the_elected_one_sends_a_task(app: Celery, tell: Any) -> None:
    tell("election", id="e", topic="task", action=app.signature("t.note", ["elected"]))

    eventually(lambda: "elected" in seen, timeout=30)


def test_an_election_for_what_nobody_can_do_is_none(worker: Worker, caplog: Any) -> None:
    assert not worker.consumer.gossip.election("three", "nothing", None)
    assert "No handler for the election topic 'nothing'" in caplog.text


# ── tasks ───────────────────────────────────────────────────────────────────────────────


def test_registered_tasks_come_with_their_rate_limits(
    inspect: Any, monkeypatch: Any
) -> None:
    assert "t.limited [rate_limit=2/m]" in inspect.registered()
    assert "t.add [max_retries=3]" in inspect.registered("max_retries")
    monkeypatch.setattr(control, "DEFAULT_TASK_INFO_ITEMS", ())
    assert "t.limited" in inspect.registered()


def test_time_limits_are_set_and_taken_away(app: Celery, tell: Any) -> None:
    task = app.tasks["t.add"]

    assert tell("time_limit", task_name="t.add", hard=30, soft=10) == {
        "ok": "time limits set successfully"
    }
    assert (task.soft_time_limit, task.time_limit) == (10, 30)
    assert "ok" in tell("time_limit", task_name="t.add", hard=None, soft=None)
    assert (task.soft_time_limit, task.time_limit) == (None, None)
    assert tell("time_limit", task_name="t.none", hard=30) == {"error": "unknown task"}


def test_a_rate_limit_that_cannot_be_read_is_refused(tell: Any) -> None:
    for value in ("x1240301#%!", "1/y", "-1/s", [1]):
        reply = tell("rate_limit", task_name="t.add", rate_limit=value)
        assert "Invalid rate limit string" in reply["error"]


def test_a_rate_limit_of_an_unknown_task_is_refused(tell: Any) -> None:
    reply = tell("rate_limit", task_name="t.none", rate_limit="1000/s")

    assert reply == {"error": "unknown task"}


def test_a_rate_limit_is_set_and_disabled(app: Celery, worker: Worker, tell: Any) -> None:
    set_ = tell("rate_limit", task_name="t.add", rate_limit="100/m")

    assert set_ == {"ok": "new rate limit set successfully"}
    assert app.tasks["t.add"].rate_limit == "100/m"
    assert worker.consumer.bucket_for_task(app.tasks["t.add"]).interval == 0.6
    reply = tell("rate_limit", task_name="t.add", rate_limit=0)
    assert reply == {"ok": "rate limit disabled successfully"}
    assert app.tasks["t.add"].rate_limit == 0
    assert worker.consumer.bucket_for_task(app.tasks["t.add"]) is None


def test_what_a_rate_limit_has_put_off_runs_when_it_is_lifted(
    app: Celery, tell: Any, inspect: Any
) -> None:
    results = [app.send_task("t.limited", [str(n)]) for n in range(5)]
    others = [app.send_task("t.add", [n, n]) for n in range(5)]

    # Nobody waits for those that have to wait.
    assert [each.get(timeout=30) for each in others] == [0, 2, 4, 6, 8]
    first = eventually(lambda: [each for each in results if each.ready()], timeout=30)
    assert len(first) == 1
    put_off = eventually(lambda: inspect.scheduled(), timeout=30)
    assert {each["request"]["name"] for each in put_off} == {"t.limited"}
    tell("rate_limit", task_name="t.limited", rate_limit=0)
    try:
        assert [each.get(timeout=30) for each in results] == list("01234")
    finally:
        tell("rate_limit", task_name="t.limited", rate_limit="2/m")
    with psycopg.connect(app.conf.broker_url) as connection:
        # It has cost them nothing.
        attempts = connection.execute(
            "select distinct attempt, meta from pgtasks.finished_jobs where task = 't.limited'"
        ).fetchall()
    assert attempts == [(1, {})]


# ── jobs ────────────────────────────────────────────────────────────────────────────────


def test_a_running_task_is_told_in_celerys_shape(held: Any, inspect: Any) -> None:
    held("shown", priority=2)
    [task] = inspect.active()

    assert task.pop("time_start") > 1e9
    assert task == {
        "id": "shown",
        "name": "t.hold",
        "args": ["shown"],
        "kwargs": {},
        "type": "t.hold",
        "hostname": NODE,
        "acknowledged": True,
        "delivery_info": {
            "exchange": "", "routing_key": "celery", "priority": 2, "redelivered": False,
        },
        "worker_pid": os.getpid(),
    }  # fmt: skip


def test_arguments_are_shown_as_the_caller_wants_them(held: Any, inspect: Any) -> None:
    held("masked", "word", argsrepr="<anything>", kwargsrepr="<nothing>")
    [task] = inspect.active(safe=True)

    assert (task["args"], task["kwargs"]) == ("<anything>", "<nothing>")


def test_tasks_are_looked_up_while_they_run_and_wait(
    app: Celery, worker: Worker, held: Any, inspect: Any
) -> None:
    assert not inspect.query_task("nobody")
    held("looked-up")
    assert inspect.query_task("looked-up")["looked-up"][0] == "active"
    with worker.pool._changed:
        # Claimed, and no thread has come to it yet.
        job = worker.held()[0]._replace(id=-1, task_id="waits")
        worker._held[-1] = job
    try:
        assert inspect.query_task(["waits", "other"])["waits"][0] == "reserved"
        [task] = inspect.reserved()
        assert (task["id"], task["hostname"]) == ("waits", NODE)
        assert (task["time_start"], task["acknowledged"]) == (None, False)
    finally:
        worker._held.pop(-1)
    assert inspect.reserved() == []


def test_a_task_for_later_is_looked_up(app: Celery, inspect: Any) -> None:
    sent = app.send_task("t.add", [1, 1], countdown=3600)
    try:
        [state, task] = inspect.query_task(sent.id)[sent.id]
    finally:
        sent.revoke()

    assert (state, task["id"], task["args"]) == ("scheduled", sent.id, [1, 1])
    assert not inspect.query_task(sent.id)


@pytest.mark.parametrize("name", ["__dict__", "_secret"])
def test_what_is_private_of_a_task_is_not_told(
    app: Celery, inspect: Any, name: str
) -> None:
    app.tasks["t.add"]._secret = "TOPSECRET"

    assert "TOPSECRET" not in str(inspect.registered(name))
    assert name not in str(inspect.registered(name))


def test_jobs_for_later_are_scheduled(app: Celery, inspect: Any) -> None:
    sent = app.send_task("t.add", [1, 1], countdown=3600)
    try:
        [entry] = inspect.scheduled()
    finally:
        sent.revoke()

    assert entry["request"]["id"] == sent.id
    assert entry["eta"].endswith("+00:00")
    assert inspect.scheduled() == []


# ── queues ──────────────────────────────────────────────────────────────────────────────


def test_queues_are_added_and_cancelled(app: Celery, inspect: Any, tell: Any) -> None:
    def names() -> list[str]:
        return sorted(each["name"] for each in inspect.active_queues())

    for _ in range(2):
        assert tell("add_consumer", queue="mail") == {"ok": "add consumer mail"}
        assert names() == ["celery", "mail"]
    assert app.send_task("t.add", [1, 2], queue="mail").get(timeout=30) == 3
    assert tell("cancel_consumer", queue="mail") == {"ok": "no longer consuming from mail"}
    assert names() == ["celery"]


def test_a_worker_may_serve_no_queue(inspect: Any, tell: Any) -> None:
    tell("cancel_consumer", queue="celery")
    try:
        assert not inspect.active_queues()
    finally:
        tell("add_consumer", queue="celery")


# ── revoking ────────────────────────────────────────────────────────────────────────────


def test_what_is_revoked_does_not_run_when_it_comes(app: Celery, inspect: Any) -> None:
    replies = app.control.revoke("to-come", reply=True, timeout=30, task_name="t.none")

    assert replies == [{NODE: {"ok": "tasks to-come flagged as revoked"}}]
    assert "to-come" in inspect.revoked()
    with pytest.raises(TaskRevokedError):
        app.send_task("t.note", ["to-come"], task_id="to-come").get(timeout=30)
    assert eventually(lambda: ended(app, "to-come"), timeout=30) == "cancelled"
    assert "to-come" not in seen


def test_whoever_waits_for_what_has_not_come_is_told(app: Celery) -> None:
    result = app.AsyncResult("never-comes")
    assert result.state == "PENDING"
    told: list[str] = []

    def wait() -> None:
        try:
            result.get(timeout=60)
        except TaskRevokedError as error:
            told.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    app.control.revoke("never-comes", reply=True, timeout=30, reason="no need")
    waiting.join(60)

    assert told == ["no need"]
    assert app.AsyncResult("never-comes").state == "REVOKED"
    app.control.forgive("never-comes", reply=True, timeout=30)
    assert app.AsyncResult("never-comes").state == "PENDING"


def test_it_is_the_table_that_knows_it(app: Celery) -> None:
    # Nobody was told: as after a restart, or beyond what a worker can remember.
    app.control.revoke("forgotten", reply=True, timeout=30, reason="too late")
    state.revoked.discard("forgotten")

    with pytest.raises(TaskRevokedError, match="too late"):
        app.send_task("t.note", ["forgotten"], task_id="forgotten").get(timeout=30)
    assert eventually(lambda: ended(app, "forgotten"), timeout=30) == "cancelled"


def test_what_was_revoked_before_it_was_sent_never_runs(
    app: Celery, monkeypatch: Any
) -> None:
    # Not for a moment: no worker is told, the claim alone sees it.
    monkeypatch.setattr(app.control, "broadcast", lambda *args, **kwargs: None)
    ids = [f"early-{number}" for number in range(40)]
    for task_id in ids:
        app.control.revoke(task_id)
        app.send_task("t.note", [task_id], task_id=task_id)

    eventually(lambda: all(ended(app, each) for each in ids), timeout=60)
    assert {ended(app, each) for each in ids} == {"cancelled"}
    assert not set(ids).intersection(seen)


def test_a_later_link_of_a_chain_is_revoked_before_it_is_there(
    app: Celery, held: Any
) -> None:
    ends["first"] = threading.Event()
    chain = app.signature("t.hold", ["first"]) | app.signature("t.note", task_id="last")
    result = chain.apply_async()
    app.control.revoke("last", reply=True, timeout=30)
    state.revoked.discard("last")
    ends["first"].set()

    assert result.id == "last"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert eventually(lambda: ended(app, "last"), timeout=30) == "cancelled"


def test_who_runs_may_end_and_does_not_begin_again(app: Celery, held: Any) -> None:
    result = held("once", task="t.again")
    app.control.revoke("once", reply=True, timeout=30)
    state.revoked.discard("once")
    assert not result.ready()
    ends["once"].set()

    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert ended(app, "once") == "cancelled"


def test_who_runs_and_is_revoked_succeeds(app: Celery, held: Any) -> None:
    result = held("runs")
    app.control.revoke("runs", reply=True, timeout=30)
    assert noted(app, "runs")
    ends["runs"].set()

    assert result.get(timeout=30) == "runs"
    # Its id may be used again.
    eventually(lambda: not noted(app, "runs"), timeout=30)


def test_it_is_taken_back(app: Celery, inspect: Any) -> None:
    app.control.revoke("after-all", reply=True, timeout=30)
    app.control.forgive("after-all", reply=True, timeout=30)

    assert "after-all" not in inspect.revoked()
    sent = app.send_task("t.note", ["after-all"], task_id="after-all")
    assert sent.get(timeout=30) == "after-all"


def test_a_job_that_was_cancelled_is_retried_by_hand(app: Celery, held: Any) -> None:
    ends["before"] = threading.Event()
    chain = app.signature("t.hold", ["before"]) | app.signature("t.note", task_id="again")
    result = chain.apply_async()
    app.control.revoke("again", reply=True, timeout=30)
    ends["before"].set()
    eventually(lambda: ended(app, "again") == "cancelled", timeout=30)

    assert result.state == "REVOKED"
    assert app.jobs.retry("again") == 1
    assert app.AsyncResult("again").get(timeout=30) == "before"


def test_whoever_is_addressed_alone_knows_of_it(app: Celery) -> None:
    app.control.revoke("for-nobody", destination=["other@here"])

    sent = app.send_task("t.note", ["for-nobody"], task_id="for-nobody")
    assert sent.get(timeout=30) == "for-nobody"


def test_an_id_may_be_used_again_when_its_revocation_was_obeyed(
    app: Celery, worker: Worker
) -> None:
    app.control.revoke("twice", reply=True, timeout=30)
    app.send_task("t.note", ["twice"], task_id="twice")
    eventually(lambda: ended(app, "twice") and not noted(app, "twice"), timeout=30)
    # As a worker that was not told, or has been started since.
    state.revoked.discard("twice")

    result = app.send_task("t.note", ["twice"], task_id="twice")
    eventually(lambda: ended(app, "twice") == "completed", timeout=30)
    assert result.get(timeout=30) == "twice"


def test_a_result_that_is_gone_is_not_taken_for_a_revoked_task(
    app: Celery, held: Any
) -> None:
    result = held("gone")
    app.control.revoke("gone", reply=True, timeout=30)
    ends["gone"].set()
    result.get(timeout=30)
    with psycopg.connect(app.conf.broker_url) as connection:
        connection.execute("delete from pgtasks.finished_jobs where task_id = 'gone'")

    assert app.AsyncResult("gone").state == "PENDING"


def test_revoking_what_is_over_leaves_no_trace(app: Celery) -> None:
    result = app.send_task("t.note", ["over"])
    result.get(timeout=30)
    app.control.revoke([result.id], reply=True, timeout=30)

    assert not noted(app, result.id)
    assert result.get(timeout=30) == "over"


def test_to_terminate_what_does_not_run_only_revokes(app: Celery, inspect: Any) -> None:
    replies = app.control.terminate("unknown", reply=True, timeout=30)

    assert replies == [{NODE: {"ok": "terminate: tasks unknown"}}]
    assert "unknown" in inspect.revoked()


def test_a_reserved_job_that_waits_for_its_rate_limit_is_revoked(
    app: Celery, worker: Worker, tell: Any, inspect: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("pgtasks.worker.rates.MOMENT", 600.0)
    tell("rate_limit", task_name="t.note", rate_limit="1/m")
    try:
        app.send_task("t.note", ["goes"]).get(timeout=30)
        waits = app.send_task("t.note", ["waits"])
        eventually(lambda: waits.id in [each["id"] for each in inspect.reserved()])
        app.control.broadcast("revoke", {"task_id": waits.id}, reply=True, timeout=30)

        assert eventually(lambda: waits.state == "REVOKED", timeout=30)
    finally:
        tell("rate_limit", task_name="t.note", rate_limit=None)
    assert "waits" not in seen


# ── revoking by stamps ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "stamps",
    [
        {"header_A": "value_1"},
        {"header_B": ["value_2", "value_3"]},
        {"header_C": ("value_2", "value_3")},
        {"header_E": [1, "2", 3.0]},
    ],
)
def test_stamps_are_revoked_one_by_one(
    app: Celery, stamps: dict[str, Any], inspect: Any
) -> None:
    replies = app.control.revoke_by_stamped_headers(stamps, reply=True, timeout=30)
    [(header, values)] = stamps.items()
    wanted = [values] if isinstance(values, str) else list(values)

    assert "flagged as revoked, but not terminated" in replies[0][NODE]["ok"]
    assert header in replies[0][NODE]["ok"]
    assert state.revoked_stamps[header] == wanted
    signature = app.signature("t.note", ["stamped"])
    signature.stamp(**{header: wanted[-1]})
    with pytest.raises(TaskRevokedError):
        signature.apply_async().get(timeout=30)


def test_stamps_that_nobody_carries_are_not_terminated(app: Celery) -> None:
    replies = app.control.revoke_by_stamped_headers(
        {"foo": "bar"}, terminate=True, reply=True, timeout=30
    )

    assert replies == [{NODE: {"ok": "headers {'foo': 'bar'} were not terminated"}}]
    assert state.revoked_stamps["foo"] == ["bar"]


@pytest.mark.parametrize(
    ("stamps", "wanted", "carried"),
    [
        ({"a": None}, {"a": "x"}, {}),
        ({"a": None, "b": "y"}, {"a": "x", "b": "y"}, {"b": ["y"]}),
        ({"a": ["x", "z"]}, {"a": ["z", "y"]}, {"a": ["z"]}),
    ],
)
def test_a_stamp_without_a_value_is_none_and_hides_no_other(
    worker: Worker, held: Any, stamps: Any, wanted: Any, carried: Any
) -> None:
    held(f"stamped-{len(stamps)}-{len(carried)}")
    job = worker.held()[0]._replace(headers=json.dumps({"stamps": stamps}))

    assert revocation.carries(job, wanted) == carried


def test_a_worker_that_comes_later_knows_them(app: Celery) -> None:
    app.control.revoke_by_stamped_headers({"kept": [7, "x"]}, reply=True, timeout=30)
    state.revoked_stamps.pop("kept")
    revocation.prepare(app)

    assert sorted(state.revoked_stamps["kept"], key=str) == [7, "x"]


# ── the pool ────────────────────────────────────────────────────────────────────────────


def test_the_pool_grows_and_shrinks(worker: Worker, tell: Any) -> None:
    assert tell("pool_grow") == {"ok": "pool will grow"}
    assert worker.pool.concurrency == 3
    assert tell("pool_shrink", n=1) == {"ok": "pool will shrink"}
    assert worker.pool.concurrency == 2
    for n in (0, "2", True):
        assert "give a whole number above 0" in tell("pool_grow", n=n)["error"]
    assert "error" in tell("pool_shrink", n=99)


def test_an_autoscaler_is_asked_in_its_place(
    worker: Worker, tell: Any, monkeypatch: Any
) -> None:
    told: list[Any] = []
    scaler = SimpleNamespace(
        force_scale_up=lambda n: told.append(n),
        force_scale_down=lambda n: told.append(-n),
        update=lambda most, least: (most, least),
    )
    monkeypatch.setattr(worker, "autoscaler", scaler, raising=False)
    tell("pool_grow", n=2)
    tell("pool_shrink", n=1)

    assert told == [2, -1]
    assert tell("autoscale", max=10, min=2) == {"ok": "autoscale now max=10 min=2"}


def test_what_a_pool_cannot_do_is_an_error(worker: Worker, monkeypatch: Any) -> None:
    # Not the pool of the worker that runs: its fetcher would miss it.
    odd = SimpleNamespace(pool=SimpleNamespace(name="odd"), autoscaler=None)
    there = control.State(worker.app, NODE, odd)
    monkeypatch.setitem(worker.app.conf, "worker_pool_restarts", True)

    for command in (control.pool_grow, control.pool_shrink, control.pool_restart):
        with pytest.raises(CommandRefused, match="the pool 'odd' of this worker cannot"):
            command(there)


def test_without_an_autoscaler_there_is_nothing_to_tell_it(
    worker: Worker, tell: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(worker, "autoscaler", None, raising=False)

    assert "Autoscale not enabled" in tell("autoscale", max=10, min=2)["error"]


def test_the_pool_is_restarted_if_that_is_allowed(
    worker: Worker, tell: Any, monkeypatch: Any
) -> None:
    restarted: list[int] = []
    monkeypatch.setattr(worker.pool, "restart", lambda: restarted.append(1), raising=False)
    worker.app.conf.worker_pool_restarts = False
    assert "Pool restarts not enabled" in tell("pool_restart")["error"]
    assert restarted == []
    worker.app.conf.worker_pool_restarts = True

    assert tell("pool_restart") == {"ok": "reload started"}
    assert restarted == [1]


def test_a_pool_without_processes_has_none_to_replace(worker: Worker, tell: Any) -> None:
    worker.app.conf.worker_pool_restarts = True

    assert "no processes to replace" in tell("pool_restart")["error"]


def test_modules_are_imported_before_and_again_if_that_is_wanted(
    worker: Worker, monkeypatch: Any
) -> None:
    imported: list[str] = []
    reloaded: list[ModuleType] = []
    monkeypatch.setattr(worker.pool, "restart", lambda: None, raising=False)
    monkeypatch.setattr(worker.app.loader, "import_from_cwd", imported.append)
    monkeypatch.setitem(sys.modules, "there", ModuleType("there"))
    worker.app.conf.worker_pool_restarts = True
    there = control.State(worker.app, NODE, worker)

    def restart(*modules: str, reload: bool) -> None:
        control.pool_restart(there, modules, reload=reload, reloader=reloaded.append)

    restart("foo", "bar", "there", reload=False)
    assert (imported, reloaded) == (["bar", "foo"], [])
    restart("there", reload=True)
    assert reloaded == [sys.modules["there"]]
    assert len(imported) == 2
