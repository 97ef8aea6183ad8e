"""Chords whose jobs are in memory: members are counted where they are kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgtasks.app.memory import MemoryQueue, queue_of
from pgtasks.job import NewJob, Outcome


@pytest.fixture
def queue(memory_app) -> MemoryQueue:
    return queue_of(memory_app)


def member(name: str, place: int | None = None, **fields: Any) -> NewJob:
    fields = {"chord": "g", "group_id": "g", "group_index": place, **fields}
    return NewJob("member", name, **fields)


def body(name: str = "body", size: int = 0, **fields: Any) -> NewJob:
    embed = json.dumps({"header": {"size": size, "taken": True}})
    return NewJob("body", name, embed=embed, **{"awaits": "g", **fields})


class Header:
    """Sends a chord and ends its members by hand."""

    def __init__(self, queue: MemoryQueue) -> None:
        self.queue = queue

    def send(self, *jobs: NewJob) -> None:
        self.queue.put(jobs)

    def claim(self) -> list[str]:
        self.running = {job.task_id: job for job in self.queue.get(["celery"], 100)}
        return list(self.running)

    def end(self, task_id: str, value: Any = None, **fields: Any) -> None:
        job = self.running[task_id]
        given = {"state": "completed", "result": json.dumps(value), **fields}
        self.queue.settle([Outcome(job.id, job.claim_token, **given)])

    def values(self, name: str = "g") -> list[Any]:
        return [json.loads(each.result) for each in self.queue.members(name)]


@pytest.fixture
def header(queue) -> Header:
    return Header(queue)


def test_the_body_waits_for_the_last_member(header):
    header.send(body(size=2), member("a", 0), member("b", 1))

    assert header.claim() == ["a", "b"]
    header.end("b", "second")
    assert header.queue.get(["celery"]) == []
    header.end("a", "first")
    assert header.values() == ["first", "second"]
    assert header.claim() == ["body"]


def test_the_body_is_the_child_of_the_member_that_ended_last(header):
    header.send(body(size=2), member("a", 0), member("b", 1))
    header.claim()
    header.end("b")
    header.end("a")

    header.claim()
    assert header.running["body"].parent_id == "a"


def test_a_member_that_ends_before_the_next_one_is_sent_releases_nobody(header):
    header.send(body(size=2))
    header.send(member("a", 0))
    header.claim()
    header.end("a", 1)
    assert header.queue.get(["celery"]) == []

    header.send(member("b", 1))
    header.claim()
    header.end("b", 2)
    assert header.claim() == ["body"]
    assert header.values() == [1, 2]


def test_a_member_that_runs_again_is_counted_once(header):
    header.send(body(size=2), member("a", 0), member("b", 1))
    header.claim()
    header.end("a", state="retryable", delay=0)
    header.end("b", 2)
    assert header.claim() == ["a"]
    header.end("a", state="available")
    header.claim()
    header.end("a", 1)

    assert header.claim() == ["body"]
    assert header.values() == [1, 2]


def test_an_end_that_comes_too_late_counts_for_nothing(header):
    header.send(body(size=2), member("a", 0), member("b", 1))
    header.claim()
    job = header.running["a"]
    for _ in range(2):
        header.queue.settle([Outcome(job.id, job.claim_token, "completed", result="1")])

    assert header.queue.get(["celery"]) == []


def test_a_chain_in_the_header_counts_when_its_last_task_ends(header):
    header.send(body(size=1), member("first", group_id=None))
    header.claim()
    last = member("last", 0)
    header.end("first", "not a result of the header", follow_ups=[last])
    assert header.claim() == ["last"]
    header.end("last", "the result")

    assert header.values() == ["the result"]
    assert header.claim() == ["body"]


def test_a_chain_that_fails_counts_as_its_last_task(header):
    header.send(body(size=1), member("first", group_id=None))
    header.claim()
    stillborn = {"task": "t", "task_id": "last", "group_id": "g", "group_index": 0}
    error = {"exc_type": "KeyError", "exc_message": ["x"], "exc_module": "builtins"}
    stillborn["result"] = json.dumps(error)
    header.end("first", error, state="discarded", stillborn=[stillborn])

    assert [(each.task_id, each.state) for each in header.queue.members("g")] == [
        ("last", "discarded")
    ]
    assert header.claim() == ["body"]
    result = header.queue._app.AsyncResult("last")
    assert isinstance(result.get(timeout=1, propagate=False), KeyError)


def test_a_replacement_counts_for_the_task_that_it_replaces(header):
    header.send(body(size=1), member("a", 0))
    header.claim()
    header.end("a", "nothing", replaced=True, follow_ups=[member("a", 0)])
    assert header.claim() == ["a"]
    header.end("a", "in the end")

    assert header.values() == ["in the end"]
    assert header.claim() == ["body"]


def test_members_that_are_added_on_the_way_count_too_and_come_last(header):
    header.send(body(size=1), member("a", 0))
    header.claim()
    header.send(member("added"))
    header.end("a", 1)
    assert header.claim() == ["added"]
    header.end("added", 2)

    assert header.values() == [1, 2]
    assert header.claim() == ["body"]


def test_a_body_that_counts_in_another_chord_holds_that_one_up(header):
    inner = body("inner", 1, chord="outer", group_id="outer", group_index=0)
    header.send(body("outer body", 1, awaits="outer"), inner, member("a", 0))
    header.claim()
    header.end("a", "x")
    assert header.claim() == ["inner"]
    header.end("inner", "y")

    assert header.claim() == ["outer body"]
    assert header.values("outer") == ["y"]


def test_each_task_of_a_group_is_released_as_a_body(header):
    header.send(body("x", 1), body("y", 1), member("a", 0))
    header.claim()
    header.end("a")

    assert header.claim() == ["x", "y"]


def test_delays_of_the_body_begin_with_its_release(header):
    header.send(body(size=1, delay=60, expires_in=90), member("a", 0))
    header.claim()
    header.end("a")

    assert header.queue.get(["celery"]) == []
    (waiting,) = header.queue._rows.values()
    assert waiting.state == "scheduled"
    assert 29 < waiting.expires_at - waiting.scheduled_at < 31


def test_members_that_are_purged_hold_nobody_up(header):
    header.send(body(size=2, queue="bodies"), member("a", 0), member("b", 1))
    header.claim()
    header.queue.settle(
        [Outcome(header.running["b"].id, header.running["b"].claim_token, "available")]
    )
    header.end("a", 1)
    assert header.queue.purge(["celery"]) == 1

    assert [job.task_id for job in header.queue.get(["bodies"], 10)] == ["body"]
    assert header.values() == [1]


def test_nothing_is_remembered_of_a_chord_that_is_over(header):
    header.send(body(size=1), member("a", 0))
    header.claim()
    header.end("a", 1)
    header.claim()
    header.end("body")

    assert header.queue.members("g") == []
    assert header.queue._chords._chords == {}


def test_what_has_not_begun_can_be_revoked(header, heard):
    told = heard("task_revoked")
    header.send(body(size=2), member("a", 0), member("b", 1, queue="slow"))
    header.claim()

    assert header.queue.cancel(["a", "b", "unknown"]) == ["b"]
    header.end("a", 1)
    assert [each.state for each in header.queue.members("g")] == ["completed", "cancelled"]
    assert header.claim() == ["body"]
    assert header.queue._app.AsyncResult("b").state == "REVOKED"
    assert [each["request"].id for each in told] == ["b"]
