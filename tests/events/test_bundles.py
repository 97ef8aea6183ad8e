"""Events as they travel, and what a worker says of a row and of its end."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

import pytest

from pgtasks.app import sent
from pgtasks.events import Event, bundles
from pgtasks.exceptions import DecodeError, EncodeError
from pgtasks.job import Error, Job, NewJob, Outcome
from pgtasks.storage.jobs import Settlement, settle
from pgtasks.worker import news

COMMON = {"hostname": "w@here", "pid": 1, "utcoffset": 0}
NOW = 1_700_000_000.5


def job(**given: Any) -> Job:
    fields: dict[str, Any] = dict.fromkeys(Job._fields)
    fields.update(
        id=7, task_id="a", task="add", queue="celery", priority=0, retries=0, args="[1, 2]",
        kwargs="{}", scheduled_at=NOW, inserted_at=NOW, size=8,
    )  # fmt: skip
    return Job(**{**fields, **given})


def ended(state: str, *, shows: Any = None, **given: Any) -> Settlement:
    outcome = Outcome(7, "token", state, **given)
    outcome.shown = shows
    return settle(outcome, "a", shows=shows is not None)


def unpacked(*rows: Any) -> list[dict[str, Any]]:
    return bundles.load(bundles.pack(COMMON, news.FIELDS, [row for row in rows if row]))


def end_of(settlement: Settlement, signum: int | None = None) -> dict[str, Any] | None:
    found = unpacked(news.ending(settlement, NOW, signum))
    return found[0] if found else None


def test_what_a_program_says_comes_back_as_it_was() -> None:
    event = Event("disk-full", volume="/srv", since=date(2026, 12, 1), n=[1, None, 2.5])

    assert bundles.load(bundles.dump([event])) == [event]


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(EncodeError, match="JSON"):
        bundles.dump([Event("disk-full", disk=object())])


def test_what_is_no_bundle_is_an_error() -> None:
    for text in ("", "nonsense", "[1]", '[{}, {}, [["unknown", 1, 2]]]', '{"events": 1'):
        with pytest.raises((DecodeError, ValueError, KeyError)):
            bundles.load(text)


def test_a_job_that_arrives_is_told_as_celery_tells_it() -> None:
    (event,) = unpacked(
        news.received(job(kwargs='{"z": "é", "n": null}', parent_id="p", retries=2), NOW)
    )

    assert event == {
        **COMMON,
        "type": "task-received",
        "clock": 0,
        "timestamp": NOW,
        "uuid": "a",
        "name": "add",
        "args": "(1, 2)",
        "kwargs": "{'z': 'é', 'n': None}",
        "root_id": "a",
        "parent_id": "p",
        "retries": 2,
        "eta": None,
        "expires": None,
    }


def test_times_are_told_in_iso_format_and_impossible_ones_not_at_all() -> None:
    later = job(scheduled_at=NOW + 60, expires_at=1e30)
    (event,) = unpacked(news.received(later, NOW))

    assert event["eta"] == datetime.fromtimestamp(NOW + 60, timezone.utc).isoformat()
    assert event["expires"] is None


@pytest.mark.parametrize(
    ("given", "args"),
    [
        ({"args": '["' + "x" * 5000 + '"]'}, '["' + "x" * 1021 + "…"),
        ({"args": None}, "<too large to be loaded>"),
        ({"args": "{nonsense"}, "{nonsense"),
        ({"args": "[]"}, "()"),
        ({"body": b"12345", "content_type": "application/x-python-serialize"},
         "<5 bytes of application/x-python-serialize>"),
        ({"headers": '{"argsrepr": "(***)"}'}, "(***)"),
        ({"headers": '{"argsrepr": nonsense'}, "(1, 2)"),
        ({"args": '[{"__type__": "date", "__value__": "2026-12-01"}]'},
         "(datetime.date(2026, 12, 1),)"),
    ],
)  # fmt: skip
def test_arguments_are_shown_and_bounded(given: dict[str, Any], args: str) -> None:
    (event,) = unpacked(news.received(job(**given), NOW))

    assert event["args"] == args


def test_the_name_that_the_caller_chose_is_shown() -> None:
    (event,) = unpacked(news.received(job(headers='{"shadow": "sum"}'), NOW))

    assert event["name"] == "sum"


def test_a_result_is_shown_as_the_child_wrote_it_or_as_it_is_stored() -> None:
    told = ended("completed", shows="{'a': 1}", result="12", runtime=0.25)
    found = end_of(told)
    assert found is not None
    assert (found["type"], found["result"], found["runtime"]) == (
        "task-succeeded", "{'a': 1}", 0.25,
    )  # fmt: skip

    stored = end_of(ended("completed", result='{"a": null}'))
    assert stored is not None
    assert stored["result"] == "{'a': None}"

    nothing = end_of(ended("completed"))
    assert nothing is not None
    assert nothing["result"] is None


def test_three_events_may_travel_as_one() -> None:
    row = news.received(job(parent_id="p", root_id="r"), NOW)
    end = news.ending(ended("completed", shows="3", runtime=0.25), NOW + 1, None)
    assert end is not None
    news.make_whole(row, end)
    row[1] = 100
    told = news.received(job(parent_id="p", root_id="r"), NOW)
    told[1] = 100

    assert unpacked(row) == [
        *unpacked(told),
        {**COMMON, "type": "task-started", "clock": 101, "timestamp": NOW + 0.75, "uuid": "a"},
        {
            **COMMON, "type": "task-succeeded", "clock": 102, "timestamp": NOW + 1,
            "uuid": "a", "result": "3", "runtime": 0.25,
        },
    ]  # fmt: skip


def test_what_was_ignored_or_replaced_has_not_succeeded() -> None:
    assert end_of(ended("completed", status="IGNORED", shows="x")) is None
    assert end_of(ended("completed", replaced=True)) is None


def test_a_failure_is_told_with_its_exception() -> None:
    error = Error("ValueError", "('a', 1)", "Traceback …")
    with_words = end_of(ended("discarded", error=error, shows=ValueError("a", 1)))
    without = end_of(ended("discarded", error=error))

    assert with_words is not None
    assert (with_words["type"], with_words["exception"], with_words["traceback"]) == (
        "task-failed", "ValueError('a', 1)", "Traceback …",
    )  # fmt: skip
    assert without is not None
    assert without["exception"] == "ValueError(\"('a', 1)\")"


def test_an_exception_that_cannot_be_shown_is_named() -> None:
    class Rude(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    found = end_of(ended("discarded", shows=Rude(), error=Error("Rude", "", "")))

    assert found is not None
    assert "Rude" in found["exception"]


@pytest.mark.parametrize(
    ("settlement", "signum", "fields"),
    [
        (ended("retryable", error=Error("KeyError", "x", "T")), None,
         {"type": "task-retried", "exception": "KeyError('x')", "traceback": "T"}),
        (ended("cancelled", error=Error("TaskRevokedError", "expired", "")), None,
         {"type": "task-revoked", "terminated": False, "signum": None, "expired": True}),
        (ended("cancelled", error=Error("TaskRevokedError", "by ann", "")), 15,
         {"type": "task-revoked", "terminated": True, "signum": 15, "expired": False}),
        (ended("available"), None, {"type": "task-rejected", "requeue": True}),
        (ended("discarded", error=Error("Reject", "no", "")), None,
         {"type": "task-rejected", "requeue": False}),
    ],
)  # fmt: skip
def test_other_ends_have_their_events(
    settlement: Settlement, signum: int | None, fields: dict[str, Any]
) -> None:
    found = end_of(settlement, signum)

    assert found == {**COMMON, "clock": 0, "timestamp": NOW, "uuid": "a", **fields}


def test_what_was_never_begun_or_only_snoozed_has_none() -> None:
    assert end_of(ended("available", give_back=True)) is None
    assert end_of(ended("scheduled", give_back=True, delay=5.0)) is None


def test_a_job_that_has_settled_itself_is_told_of_like_any_other() -> None:
    found = end_of(ended("completed", written=[], shows="3", runtime=1.0))

    assert found is not None
    assert (found["type"], found["result"]) == ("task-succeeded", "3")


def test_what_an_end_has_sent_is_told() -> None:
    settlement = ended("completed", follow_ups=[NewJob("next", "b", args="[3]", delay=5.0)])
    (event,) = unpacked(*news.sent_by(settlement, NOW))

    assert (event["type"], event["uuid"], event["name"], event["args"]) == (
        "task-sent", "b", "next", "(3,)",
    )  # fmt: skip
    assert event["eta"] == datetime.fromtimestamp(NOW + 5, timezone.utc).isoformat()


def test_task_sent_names_queue_and_secrets_as_told() -> None:
    new = NewJob(
        "t", "a", queue="q", body=b"123", content_type="x/y", expires="2026-12-01T00:00:00Z",
        headers='{"kwargsrepr": "{…}"}', root_id="r",
    )  # fmt: skip
    fields = sent.fields_of(new.document(), NOW)

    assert tuple(fields) == sent.FIELDS
    assert (fields["queue"], fields["routing_key"], fields["exchange"]) == ("q", "q", "")
    assert (fields["args"], fields["kwargs"]) == ("<3 bytes of x/y>", "{…}")
    assert (fields["root_id"], fields["expires"]) == ("r", "2026-12-01T00:00:00Z")
