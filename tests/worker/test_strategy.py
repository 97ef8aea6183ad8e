"""Messages of Celery's become requests for programs that receive them themselves."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from pgtasks import Celery, Task
from pgtasks.exceptions import InvalidTaskError
from pgtasks.worker import state
from pgtasks.worker.request import Request
from pgtasks.worker.strategy import hybrid_to_proto2, proto1_to_proto2


class Consumer:
    """Takes requests, as whoever receives messages would."""

    hostname = "gateway@here"
    pool = None
    event_dispatcher = None
    connection_errors = ()

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.put_off: list[Any] = []
        self.timer = SimpleNamespace(call_at=lambda *what, **how: self.put_off.append(what))

    def on_task_request(self, request: Any) -> None:
        self.taken.append(request)

    def apply_eta_task(self, request: Any) -> None:
        raise AssertionError("its time has not come")


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Any:
    yield
    state.reset_state()


def message_of(app: Celery, task: Any, **options: Any) -> Any:
    message = app.amqp.as_task_v2("one", task.name, (1, 2), {}, **options)
    return SimpleNamespace(
        headers=message.headers,
        properties=message.properties,
        body=message.body,
        payload=message.body,
        delivery_info={},
        content_type="application/json",
        content_encoding="utf-8",
    )


@pytest.fixture
def task(memory_app: Celery) -> Any:
    @memory_app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    return add


def handle(
    app: Celery, task: Any, consumer: Consumer, message: Any, body: Any = None
) -> None:
    answers: list[str] = []
    handler = task.start_strategy(app, consumer)
    handler(
        message, body, lambda *a: answers.append("ack"), lambda *a: answers.append("no")
    )


def test_a_message_becomes_a_request_that_is_handed_on(
    memory_app: Celery, task: Any, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "celery.worker.strategy")
    told, consumer = heard("task_received"), Consumer()
    handle(memory_app, task, consumer, message_of(memory_app, task))

    [request] = consumer.taken
    assert (request.id, request.name, request.hostname) == ("one", "add", "gateway@here")
    assert request in state.reserved_requests
    assert [(each["sender"], each["request"]) for each in told] == [(consumer, request)]
    assert "Task add[one] received" in caplog.text


def test_the_request_is_of_the_class_that_its_task_names(memory_app: Celery) -> None:
    class Mine(Request):
        pass

    class Special(Task[Any, Any]):
        Request = Mine

    @memory_app.task(name="special", base=Special, shared=False)
    def special(x: int, y: int) -> None: ...

    consumer = Consumer()
    handle(memory_app, special, consumer, message_of(memory_app, special))

    assert isinstance(consumer.taken[0], Mine)


def test_one_for_later_waits_for_the_consumers_timer(memory_app: Celery, task: Any) -> None:
    consumer = Consumer()
    due = datetime.now(timezone.utc) + timedelta(hours=1)
    handle(memory_app, task, consumer, message_of(memory_app, task, eta=due))

    [(moment, apply, (request,))] = consumer.put_off
    assert moment == pytest.approx(due.timestamp(), abs=1e-3)
    assert apply == consumer.apply_eta_task
    assert request in state.scheduled_requests and consumer.taken == []


def test_one_that_is_revoked_or_too_late_is_dropped(memory_app: Celery, task: Any) -> None:
    consumer = Consumer()
    state.revoked.add("one")
    handle(memory_app, task, consumer, message_of(memory_app, task))
    state.revoked.discard("one")
    handle(memory_app, task, consumer, message_of(memory_app, task, expires=-1))

    assert consumer.taken == []


def test_the_first_protocol_is_read_too(memory_app: Celery, task: Any) -> None:
    body = {
        "task": "add", "id": "old", "args": [1, 2], "kwargs": {}, "taskset": "g", "utc": False
    }  # fmt: skip
    message = SimpleNamespace(
        headers=None, properties={}, body=b"", payload={}, delivery_info={},
        content_type="application/json", content_encoding="utf-8",
    )  # fmt: skip
    consumer = Consumer()
    handle(memory_app, task, consumer, message, body)

    [request] = consumer.taken
    assert (request.id, request.args, request.group) == ("old", [1, 2], "g")
    read = proto1_to_proto2(message, dict(body))
    assert (read.headers["argsrepr"], read.decoded, read.utc) == ("[1, 2]", True, False)
    mixed = hybrid_to_proto2(SimpleNamespace(headers={"id": "new"}), body)
    assert (mixed.headers["id"], mixed.headers["retries"]) == ("new", 0)


@pytest.mark.parametrize("read", [proto1_to_proto2, hybrid_to_proto2])
def test_keyword_arguments_that_are_none_are_refused(read: Any) -> None:
    with pytest.raises(InvalidTaskError, match="no mapping"):
        read(SimpleNamespace(headers=None), {"args": (), "kwargs": (2,)})
