"""Attaching to events and being told of them: ``pgtasks.telemetry``."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

import pytest

import pgtasks
from pgtasks import Cancel, Discard, Snooze, telemetry
from pgtasks.contrib.testing.worker import TestWorkController
from pgtasks.exceptions import Reject
from pgtasks.testing import drain_queue, perform_job


@pytest.fixture(autouse=True)
def _nobody_stays_attached():
    yield
    for handler in telemetry.list_handlers():
        telemetry.detach(handler.id)
    assert telemetry.HANDLERS == {}


@pytest.fixture
def heard():
    """Attaches to events; the list that it returns grows."""

    def listen(*events):
        told = []

        def note(event, measurements, metadata, config):
            told.append((event, measurements, metadata))

        telemetry.attach_many(f"heard-{len(telemetry.HANDLERS)}-{id(told)}", events, note)
        return told

    return listen


@pytest.fixture
def jobs(heard):
    return heard("pgtasks.job.start", "pgtasks.job.stop", "pgtasks.job.exception")


# ── handlers ────────────────────────────────────────────────────────────────────────────


def test_a_handler_is_called_with_the_event_and_its_config():
    told = []
    telemetry.attach("mine", "my.event", lambda *args: told.append(args), {"a": 1})

    telemetry.execute("my.event", {"count": 1}, {"of": "things"})
    telemetry.execute(("my", "event"))
    telemetry.execute("my.other")

    assert told == [
        ("my.event", {"count": 1}, {"of": "things"}, {"a": 1}),
        ("my.event", {}, {}, {"a": 1}),
    ]


def test_an_event_and_a_function_are_enough():
    told = []

    name = telemetry.attach("my.event", lambda *args: told.append(args))
    telemetry.execute("my.event")
    assert len(told) == 1
    assert telemetry.detach(name)
    telemetry.execute("my.event")
    assert len(told) == 1
    assert not telemetry.detach(name)


def test_handlers_are_listed_by_prefix():
    def one(*args):
        """Never called."""

    telemetry.attach_many("a", ["pgtasks.job.stop", ("pgtasks", "job", "start")], one)
    telemetry.attach("b", "pgtasks.plugin.stop", one)

    assert [each.event for each in telemetry.list_handlers("pgtasks.job")] == [
        "pgtasks.job.stop",
        "pgtasks.job.start",
    ]
    assert [each.id for each in telemetry.list_handlers(["pgtasks", "plugin"])] == ["b"]
    assert len(telemetry.list_handlers()) == 3
    assert telemetry.list_handlers("pgtasks.jo") == []


def test_a_handler_that_raises_is_detached_and_harms_nothing(caplog):
    told = []

    def broken(*args):
        raise KeyError("oh")

    telemetry.attach_many("broken", ["my.event", "my.other"], broken)
    telemetry.attach("good", "my.event", lambda *args: told.append(args))

    telemetry.execute("my.event")
    telemetry.execute("my.event")

    assert len(told) == 2
    assert [each.id for each in telemetry.list_handlers()] == ["good"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "'broken' failed on my.event and has been detached" in record.getMessage()
    assert "KeyError: 'oh'" in caplog.text


def test_what_a_handler_changes_others_do_not_see():
    told = []
    telemetry.attach("greedy", "my.event", lambda e, m, meta, c: meta.clear())
    telemetry.attach("second", "my.event", lambda e, m, meta, c: told.append(meta))

    telemetry.execute("my.event", {}, {"a": 1})
    assert told == [{"a": 1}]


def test_a_handler_is_not_told_of_what_it_does_itself():
    told = []

    def again(*args):
        told.append(args)
        telemetry.execute("my.event")

    telemetry.attach("again", "my.event", again)
    telemetry.execute("my.event")
    assert len(told) == 1


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (("pgtasks.job.stopp", print), ValueError, "Is it 'pgtasks.job.stop'"),
        (("", print), ValueError, "has a name"),
        (("x", "my.event", "no function"), TypeError, "is no handler"),
        (("x", "my.event", asyncio.sleep), TypeError, "coroutine function"),
        (("taken", "my.event", print), ValueError, "attached already"),
    ],
)
def test_what_cannot_be_attached_is_told(args, error, message):
    telemetry.attach("taken", "my.event", print)

    with pytest.raises(error, match=message):
        telemetry.attach(*args)
    assert len(telemetry.list_handlers()) == 1


def test_handlers_may_come_and_go_while_events_are_told():
    stop = threading.Event()

    def tell():
        while not stop.is_set():
            telemetry.execute("my.event")

    threads = [threading.Thread(target=tell) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(300):
        telemetry.attach(f"h{number}", "my.event", lambda *args: None)
        telemetry.detach(f"h{number}")
    stop.set()
    for thread in threads:
        thread.join()
    assert telemetry.list_handlers() == []


# ── spans ───────────────────────────────────────────────────────────────────────────────


def test_a_span_tells_of_its_beginning_and_its_end(heard):
    told = heard("my.work.start", "my.work.stop", "my.work.exception")

    with telemetry.span("my.work", {"what": 1}) as known:
        known["count"] = 5

    (start, began, first), (stop, took, last) = told
    assert (start, stop) == ("my.work.start", "my.work.stop")
    assert (first, last) == ({"what": 1}, {"what": 1, "count": 5})
    assert began["system_time"] <= took["system_time"]
    assert took["duration"] >= 0


def test_a_span_tells_of_what_is_raised_and_raises_it(heard):
    told = heard("my.work.exception")

    def work():
        with telemetry.span("my.work") as known:
            known["count"] = 5
            raise KeyError("oh")

    with pytest.raises(KeyError):
        work()

    ((_, measured, known),) = told
    assert measured["duration"] >= 0
    assert (known["kind"], known["reason"], known["count"]) == (
        "error",
        "KeyError('oh')",
        5,
    )
    assert isinstance(known["error"], KeyError)
    assert "raise KeyError" in known["stacktrace"]


# ── jobs ────────────────────────────────────────────────────────────────────────────────


def test_a_job_tells_of_its_beginning_and_its_end(each_app, jobs):
    @each_app.task(name="tests.add", max_attempts=4)
    def add(x, y):
        return x + y

    result = add.apply_async((1,), {"y": 2}, tags=["t"], meta={"m": 1}, priority=3)
    assert jobs == []
    drain_queue(each_app)

    (start, begun, first), (stop, measured, last) = jobs
    assert (start, stop) == ("pgtasks.job.start", "pgtasks.job.stop")
    known = {
        "task": "tests.add", "task_id": result.id, "queue": "celery", "attempt": 1,
        "max_attempts": 4, "args": [1], "kwargs": {"y": 2}, "tags": ["t"],
        "meta": {"m": 1}, "priority": 3, "app": each_app,
    }  # fmt: skip
    assert {key: first[key] for key in known} == known
    assert first["job"].id == first["id"]
    assert {**first, "state": "success", "result": 3} == last
    assert set(begun) == {"system_time"}
    assert 0 <= measured["duration"] < 10
    assert 0 <= measured["queue_time"] < 30


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (Snooze(5), "snoozed"),
        (Cancel("no"), "cancelled"),
        (Discard("bad"), "discard"),
        (Reject(requeue=True), "released"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ends_that_a_task_chooses_are_no_exceptions(memory_app, jobs, end, state):
    @memory_app.task(acks_late=True)
    def choose():
        raise end

    perform_job(choose)
    event, _, known = jobs[-1]
    assert (event, known["state"]) == ("pgtasks.job.stop", state)


@pytest.mark.parametrize(
    ("most", "state"), [(None, "discard"), (3, "failure")], ids=["last", "first"]
)
def test_a_failure_is_an_exception(memory_app, jobs, most, state):
    @memory_app.task(max_attempts=most)
    def fail():
        raise KeyError("oh")

    perform_job(fail)
    event, measured, known = jobs[-1]
    assert (event, known["state"]) == ("pgtasks.job.exception", state)
    assert (known["kind"], known["reason"]) == ("error", "KeyError('oh')")
    assert "KeyError: 'oh'" in known["stacktrace"]
    assert set(measured) == {"duration", "queue_time", "system_time"}


def test_a_retry_is_a_failure_if_something_failed(memory_app, jobs):
    @memory_app.task(bind=True)
    def again(self, why):
        raise self.retry(exc=ValueError(why) if why else None)

    perform_job(again, ("late",))
    perform_job(again, ("",))
    assert [(event, known.get("state")) for event, _, known in jobs[1::2]] == [
        ("pgtasks.job.exception", "failure"),
        ("pgtasks.job.stop", "retry"),
    ]


def test_a_task_that_would_end_its_process_is_an_exit(memory_app, jobs):
    @memory_app.task
    def leave():
        sys.exit(1)

    perform_job(leave)
    event, _, known = jobs[-1]
    assert (event, known["state"]) == ("pgtasks.job.exception", "discard")
    assert "WorkerLostError" in known["reason"]


def test_a_job_that_cannot_be_run_is_told_of_too(each_app, jobs):
    each_app.send_task("tests.nowhere")
    drain_queue(each_app)

    event, _, known = jobs[-1]
    assert (event, known["task"]) == ("pgtasks.job.exception", "tests.nowhere")


def test_a_handler_that_raises_costs_no_job(memory_app, caplog):
    @memory_app.task
    def add(x, y):
        return x + y

    for event in ("start", "stop"):
        telemetry.attach(f"broken-{event}", f"pgtasks.job.{event}", lambda: None)
    assert perform_job(add, (1, 2)).result == 3
    assert telemetry.list_handlers() == []
    assert len([each for each in caplog.records if "detached" in each.message]) == 2


# ── what else is told ───────────────────────────────────────────────────────────────────


def test_statements_are_told_of(postgres_app, heard):
    told = heard("pgtasks.engine.insert_job.start", "pgtasks.engine.insert_job.stop")
    task = postgres_app.task(name="tests.one")(lambda: 1)
    task.delay()
    asyncio.run(task.adelay())

    assert [event.rpartition(".")[2] for event, _, _ in told] == ["start", "stop"] * 2
    _, measured, known = told[1]
    assert 0 < measured["duration"] < 30
    assert (known["operation"], known["result"][0].conflict) == ("insert_job", False)


def test_statements_that_fail_are_told_of(heard):
    told = heard("pgtasks.engine.insert_job.exception")
    with pgtasks.Celery(
        "tests", broker="postgresql://localhost:1/none", set_as_current=False
    ) as app:
        task = app.task(name="tests.one")(lambda: 1)
        with pytest.raises(pgtasks.exceptions.OperationalError):
            task.apply_async(retry=False)

    ((_, _, known),) = told
    assert "localhost" in known["database"]
    assert known["kind"] == "error"


def test_a_worker_tells_of_its_life(postgres_app, heard):
    told = heard(
        "pgtasks.supervisor.init",
        "pgtasks.notifier.switch",
        "pgtasks.plugin.stop",
        "pgtasks.engine.fetch_jobs.stop",
        "pgtasks.engine.settle_jobs.stop",
        "pgtasks.job.stop",
        "pgtasks.queue.shutdown",
    )
    task = postgres_app.task(name="tests.one")(lambda: 1)
    worker = TestWorkController(postgres_app, pool="solo", concurrency=1)
    thread = threading.Thread(target=worker.start)
    thread.start()
    worker.ensure_started()
    assert task.delay().get(timeout=20) == 1
    assert postgres_app.notifier.wait_listening(20)
    worker.stop()
    thread.join()

    names = [event for event, _, _ in told]
    assert names[0] == "pgtasks.supervisor.init"
    assert names[-1] in ("pgtasks.queue.shutdown", "pgtasks.notifier.switch")
    for name in (
        "pgtasks.job.stop",
        "pgtasks.engine.fetch_jobs.stop",
        "pgtasks.engine.settle_jobs.stop",
        "pgtasks.queue.shutdown",
    ):
        assert name in names
    switches = [known["status"] for event, _, known in told if event.endswith("switch")]
    assert switches[0] == "listening"
    rounds = [known for event, _, known in told if event == "pgtasks.plugin.stop"]
    plugins = {known["plugin"] for known in rounds}
    assert {"stager", "lifeline"} <= plugins
    (shutdown,) = [each for each in told if each[0] == "pgtasks.queue.shutdown"]
    assert (shutdown[2]["queue"], shutdown[2]["orphaned"]) == ("celery", [])
    assert shutdown[1]["elapsed"] >= 0


def test_every_event_is_told_with_what_it_promises(postgres_app):
    """What is written in the table is what comes."""
    told = {}

    def note(event, measurements, metadata, config):
        told.setdefault(event, (set(measurements), set(metadata)))

    telemetry.attach_many("all", telemetry.EVENTS, note)

    @postgres_app.task
    def fail():
        raise KeyError

    fail.delay()
    perform_job(fail)
    perform_job(postgres_app.task(name="tests.one")(lambda: 1))
    postgres_app.control.purge()

    assert {"pgtasks.job.start", "pgtasks.engine.purge_jobs.stop"} <= told.keys()
    for name, (measurements, metadata) in told.items():
        event = telemetry.EVENTS[name]
        assert measurements == set(event.measurements), name
        assert metadata == set(event.metadata), name
