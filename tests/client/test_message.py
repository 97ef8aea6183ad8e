from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pgtasks import Celery

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def test_a_call_as_celerys_message(app: Celery) -> None:
    message = app.amqp.as_task_v2("an-id", "a.task", (1, {"x": [2]}), {"k": "v"})

    assert message.headers["task"] == "a.task"
    assert message.headers["id"] == message.headers["root_id"] == "an-id"
    assert message.headers["argsrepr"] == "(1, {'x': [2]})"
    assert message.headers["kwargsrepr"] == "{'k': 'v'}"
    assert message.headers["timelimit"] == [None, None]
    assert message.properties == {"correlation_id": "an-id", "reply_to": ""}
    assert message.body == (
        (1, {"x": [2]}),
        {"k": "v"},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    )
    assert message.sent_event is None


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"countdown": 10}, "eta", "2026-01-01T12:00:10+00:00"),
        ({"eta": NOW}, "eta", "2026-01-01T12:00:00+00:00"),
        ({"eta": "2026-01-01"}, "eta", "2026-01-01"),
        ({"countdown": 10, "eta": "2030-01-01"}, "eta", "2026-01-01T12:00:10+00:00"),
        ({"countdown": 0, "eta": "2030-01-01"}, "eta", "2030-01-01"),
        ({"expires": 0}, "expires", "2026-01-01T12:00:00+00:00"),
        ({"expires": -1.5}, "expires", "2026-01-01T11:59:58.500000+00:00"),
        ({}, "expires", None),
    ],
)
def test_dates_are_written_as_text(
    app: Celery, options: dict[str, Any], header: str, value: Any
) -> None:
    assert app.amqp.as_task_v2("an-id", "x", now=NOW, **options).headers[header] == value


def test_a_countdown_is_elapsed_time_when_the_clocks_change(app: Celery) -> None:
    zone = ZoneInfo("America/New_York")
    app.conf.timezone = "America/New_York"
    before = datetime(2026, 3, 8, 1, 30, tzinfo=zone)

    eta = app.amqp.as_task_v2("an-id", "x", countdown=3600, now=before).headers["eta"]

    assert datetime.fromisoformat(eta) - before.astimezone(timezone.utc) == timedelta(
        hours=1
    )
    assert eta == "2026-03-08T03:30:00-04:00"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"args": "abc"}, TypeError),
        ({"kwargs": [1]}, TypeError),
        ({"countdown": -(2**40)}, ValueError),
        ({"expires": -(2**40)}, ValueError),
    ],
)
def test_what_makes_no_message(app: Celery, arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        app.amqp.as_task_v2("an-id", "x", **arguments)


def test_stamps_are_taken_from_the_options(app: Celery) -> None:
    message = app.amqp.as_task_v2("an-id", "x", stamped_headers=["who"], who="me")

    assert message.headers["stamps"] == {"who": "me"}


def test_the_event_of_sending_tells_the_same(app: Celery) -> None:
    event = app.amqp.as_task_v2("an-id", "x", (1,), create_sent_event=True).sent_event

    assert event is not None
    assert (event["uuid"], event["name"], event["args"]) == ("an-id", "x", "(1,)")
