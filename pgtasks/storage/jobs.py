"""Jobs as rows: inserted by the client, fetched and acked by the worker."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from pgtasks.job import Job, NewJob, Outcome
from pgtasks.storage.query import Query, Row, load
from pgtasks.utils.text import safe_repr

__all__ = [
    "ACK_SETTINGS",
    "LOWEST",
    "Acked",
    "Claim",
    "Claimed",
    "Inserted",
    "Mark",
    "QueueCount",
    "Settlement",
    "Staged",
    "ack",
    "asked",
    "count",
    "fetch",
    "insert",
    "only_inserted",
    "plain",
    "progress",
    "prune",
    "purge",
    "recount",
    "recover",
    "salvage",
    "settle",
    "settled",
    "stage",
]

SQL = load("jobs.sql")

LONGEST_SHOWN = 1024
"""Characters of an exception that events show."""

FINAL_STATES = frozenset({"completed", "discarded", "cancelled"})


class Inserted(NamedTuple):
    """The answer to one `NewJob`: its row, or that its id or unique key was taken."""

    id: int | None
    task_id: str
    conflict: bool


class Mark(NamedTuple):
    """A place in a queue's order: priority, due time as text, id."""

    priority: int
    scheduled_at: str
    id: int


LOWEST = Mark(-32768, "-infinity", -9223372036854775808)
"""The mark before every job."""


class Claim(NamedTuple):
    """A claim in passing: for what follows from a job that is being settled.

    Attributes:
        worker: Id of the claiming worker.
        token: Random, new for each claim: the fence of everything that it claims (R3).
        queues: Queues that the worker serves.
        rerunnable: Names of the tasks that may run again after a crash.
        max_size: Arguments of more bytes than this are left in the table.
        node: Name of the worker, to which a queue may be paused.
    """

    worker: str
    token: str
    queues: list[str]
    rerunnable: list[str]
    max_size: int
    node: str = ""


class Claimed(NamedTuple):
    """What a claim brought: the jobs, most urgent first, and the last mark of each queue."""

    jobs: list[Job]
    marks: dict[str, Mark]


class Staged(NamedTuple):
    """What became due, by queue, and the seconds until something else does."""

    queues: dict[str, int]
    wait: float | None


class QueueCount(NamedTuple):
    """How many jobs of one queue are in one state, and how overdue the oldest is."""

    queue: str
    state: str
    jobs: int
    age: float


PLAIN = (
    "task", "task_id", "queue", "priority", "args", "kwargs", "ignore_result", "root_id",
    "parent_id", "origin",
)  # fmt: skip
"""What a job may have for the statement of the everyday call."""

_plain = attrgetter(*PLAIN)
_RARE = [each for each in fields(NewJob) if each.name not in PLAIN]
_rare = attrgetter(*[each.name for each in _RARE])
_NONE_OF_THEM = tuple(each.default for each in _RARE)


def insert(
    jobs: Sequence[NewJob],
    *,
    again: bool = False,
    wake: str = "coalesced",
    durable: bool = True,
) -> Query[list[Inserted]]:
    """Insert ``jobs`` in the order given.

    Args:
        jobs: What to insert. An id that an unfinished job already has, and a unique
            key that is taken, make a conflict, not an error.
        again: This is a second try after a lost answer: ids that are over count as
            inserted by the first.
        wake: ``coalesced`` notifies sleeping workers, one transaction at a time;
            ``always`` is for a caller's own transaction, which may stay open and
            must not keep others from notifying; ``never`` leaves it to polling.
        durable: Not to return before the jobs are on disk. Otherwise a crash of the server
            may forget them within its next 0.6 s; never half of them, nor any others.
            Not for a caller's own transaction.
    """
    if len(jobs) == 1 and not again and wake == "coalesced":
        values = plain(jobs[0])
        if values is not None:
            values["durable"] = durable
            return Query(SQL["insert_one"], values, only_inserted(jobs[0]))
    params = {
        "jobs": json.dumps(_documents(jobs)),
        "again": again, "wake": wake, "durable": durable
    }  # fmt: skip
    ids = [job.task_id for job in jobs]

    def read(rows: Sequence[Row]) -> list[Inserted]:
        rows_by_id = {task_id: id for id, task_id in rows if id is not None}
        return [
            Inserted(rows_by_id.get(task_id), task_id, task_id not in rows_by_id)
            for task_id in ids
        ]

    return Query(SQL["insert"], params, read)


def _documents(jobs: Sequence[NewJob]) -> list[dict[str, Any]]:
    documents = [job.document() for job in jobs]
    turns: Counter[tuple[str, str]] = Counter()
    for job, document in zip(jobs, documents, strict=True):
        if job.limits:
            # The how manieth of those before the same gate, in the same queue.
            place = (job.queue, job.limits[0])
            turns[place] += 1
            document["turn"] = turns[place]
    return documents


def plain(job: NewJob) -> dict[str, Any] | None:
    """The values of a job that has no others than `PLAIN`; None if it has."""
    if _rare(job) != _NONE_OF_THEM:
        return None
    return dict(zip(PLAIN, _plain(job), strict=True))


def only_inserted(job: NewJob) -> Callable[[Sequence[Row]], list[Inserted]]:
    """How to read the answer to the insert of one job: its row, or none."""

    def read(rows: Sequence[Row]) -> list[Inserted]:
        return [Inserted(rows[0][0] if rows else None, job.task_id, not rows)]

    return read


def fetch(
    marks: dict[str, Mark],
    *,
    demand: int,
    worker: str,
    token: str,
    rerunnable: Sequence[str] = (),
    max_size: int = 2**30,
    node: str = "",
    rooms: Mapping[str, int] | None = None,
) -> Query[Claimed]:
    """Claim up to ``demand`` runnable jobs for ``worker``, most urgent first.

    Args:
        marks: The queues to claim from, each with the mark to begin behind.
        demand: How many at most.
        worker: Id of the claiming worker; one that was declared dead gets nothing.
        token: Random, new for each call: the fence of everything that it claims (R3).
        rerunnable: Names of the tasks that may run again after a crash.
        max_size: Arguments of more bytes than this are left in the table.
        node: Name of the worker, to which a queue may be paused.
        rooms: How many at most of these queues; of others, as many as of all.
    """
    common = {
        "demand": demand,
        "worker": worker,
        "token": token,
        "rerunnable": list(rerunnable),
        "max_size": max_size,
        "node": node,
    }
    if len(marks) == 1:
        [(queue, mark)] = marks.items()
        one = {"queue": queue, "priority": mark[0], "due": mark[1], "id": mark[2], **common}
        if rooms:
            one["demand"] = min(demand, rooms.get(queue, demand))
        return Query(SQL["fetch_queue"], one, _most_urgent_first)
    params = {**asked(marks, demand, rooms), **common}
    return Query(SQL["fetch"], params, _most_urgent_first)


def asked(
    marks: Mapping[str, Mark], demand: int, rooms: Mapping[str, int] | None
) -> dict[str, Any]:
    """The queues to claim from, as parameters: columns of a table."""
    given = rooms or {}
    return {
        "queues": list(marks),
        "priorities": [mark.priority for mark in marks.values()],
        "dues": [mark.scheduled_at for mark in marks.values()],
        "ids": [mark.id for mark in marks.values()],
        "rooms": [given.get(queue, demand) for queue in marks],
    }


def recover(*, worker: str, token: str, max_size: int = 2**30) -> Query[Claimed]:
    """The jobs of a claim whose answer was lost with its connection (R6)."""
    params = {"worker": worker, "token": token, "max_size": max_size}
    return Query(SQL["recover"], params, _most_urgent_first)


_DUE = len(Job._fields)


def _most_urgent_first(rows: Sequence[Row]) -> Claimed:
    # RETURNING promises no order, whatever the CTE sorted by. Columns 4, 16 and 0
    # are priority, due time and id.
    rows = sorted(rows, key=itemgetter(4, 16, 0))
    marks = {row[3]: Mark(row[4], row[_DUE], row[0]) for row in rows}
    return Claimed([Job._make(row[:_DUE]) for row in rows], marks)


class Settlement(NamedTuple):
    """An `Outcome` as it goes into the acknowledgement, encoded where the job ran.

    The child process writes the JSON; the parent only joins texts, which keeps the
    one process that serves all children at a few microseconds a job.
    """

    id: int
    task_id: str
    claim_token: str
    state: str
    runtime: float
    abandoned: bool
    document: str
    follow_ups: list[str]
    stillborn: list[str]
    written: list[str] | None = None
    #: What was returned or raised, as text, if it is wanted for events.
    shown: str | None = None


def settle(outcome: Outcome, task_id: str, *, shows: bool = False) -> Settlement:
    """Encode what became of the job with this ``task_id``.

    Args:
        outcome: What became of it.
        task_id: Its id.
        shows: Say what it returned or raised, too, for events.
    """
    shown = _as_text(outcome.shown) if shows else None
    if outcome.written is not None:
        return Settlement(
            outcome.id, task_id, outcome.claim_token, outcome.state, outcome.runtime, False,
            "", [], [], outcome.written, shown,
        )  # fmt: skip
    document: dict[str, Any] = {
        "id": outcome.id,
        "claim_token": outcome.claim_token,
        "state": outcome.state,
        "retried": int(outcome.retried),
        "give_back": int(outcome.give_back),
        "crashed": int(outcome.crashed),
        "abandoned": outcome.abandoned,
    }
    if outcome.replaced:
        document["replaced"] = True
    for name in _OPTIONAL:
        value = getattr(outcome, name)
        if value is not None:
            document[name] = value
    if outcome.result_body is not None:
        document["result_body"] = "\\x" + outcome.result_body.hex()
    if outcome.body is not None:
        document["body"] = "\\x" + outcome.body.hex()
    if outcome.error is not None:
        document["kind"], document["message"], document["error_traceback"] = outcome.error
    return Settlement(
        outcome.id,
        task_id,
        outcome.claim_token,
        outcome.state,
        outcome.runtime,
        outcome.abandoned,
        json.dumps(document),
        [
            json.dumps({"follows": outcome.id, **job.document()})
            for job in outcome.follow_ups
        ],
        [json.dumps({"follows": outcome.id, **row}) for row in outcome.stillborn],
        None,
        shown,
    )


def _as_text(shown: Any) -> str | None:
    if shown is None or isinstance(shown, str):
        return shown
    return safe_repr(shown)[:LONGEST_SHOWN]


_OPTIONAL = (
    "status", "result", "result_content_type", "traceback", "children",
    "delay", "eta", "queue", "priority", "args", "kwargs", "headers", "embed",
)  # fmt: skip


ACK_SETTINGS = {"enable_nestloop": "off", "enable_hashjoin": "on"}
"""Session settings under which `ack` is linear in its batch. A nested loop compares each
outcome with each row: 250 ms for 420 outcomes, where a hash takes 5."""


class Acked(NamedTuple):
    """What came of settling jobs.

    Attributes:
        ids: Those that were ours to settle.
        queues: Where jobs are now that may run: follow-ups, or what ran and runs again.
        jobs: The follow-ups that were claimed in passing.
    """

    ids: set[int]
    queues: set[str]
    jobs: Sequence[Job] = ()


def ack(settlements: Sequence[Settlement], claim: Claim | None = None) -> Query[Acked]:
    """Settle jobs, whatever became of them.

    Args:
        settlements: What became of them.
        claim: Claims what follows from them and may run now; by default it waits in its
            queue like every other job.
    """
    follow_ups = [each for settlement in settlements for each in settlement.follow_ups]
    stillborn = [each for settlement in settlements for each in settlement.stillborn]
    params = {
        "outcomes": f"[{','.join([each.document for each in settlements])}]",
        "follow_ups": f"[{','.join(follow_ups)}]",
        "stillborn": f"[{','.join(stillborn)}]",
        "ids": f"{{{','.join([str(each.id) for each in settlements])}}}",
    }
    if claim is None:
        return Query(SQL["ack"], params, _acked)
    return Query(SQL["ack_and_claim"], {**params, **claim._asdict()}, _acked_and_claimed)


def _acked(rows: Sequence[Row]) -> Acked:
    # A notification that was sent is an empty text.
    return Acked(_ids(rows), {row[1] for row in rows if row[1]})


def _acked_and_claimed(rows: Sequence[Row]) -> Acked:
    claimed = [row[2:] for row in rows if row[2] is not None]
    return _acked(rows)._replace(jobs=_most_urgent_first(claimed).jobs)


def _ids(rows: Sequence[Row]) -> set[int]:
    return {row[0] for row in rows if row[0] is not None}


def settled(refused: Sequence[Settlement]) -> Query[set[int]]:
    """Which of the refused settlements had in truth been written by a lost call (R9)."""
    params = {
        "task_ids": [each.task_id for each in refused],
        "tokens": sorted({each.claim_token for each in refused}),
    }
    return Query(SQL["settled"], params, _ids)


def salvage(settlement: Settlement) -> Query[bool]:
    """Replace the verdict on a job that was given up by what really became of it (R10).

    What its success leads to is inserted with it. What a failure leads to is not: the
    verdict was one, and has led to that already.

    Returns:
        Whether there was such a verdict still.
    """
    document = json.loads(settlement.document)
    follow_ups = settlement.follow_ups if settlement.state == "completed" else []
    params = {
        "task_id": settlement.task_id,
        "token": settlement.claim_token,
        "state": settlement.state,
        "replaced": bool(document.get("replaced")),
        "result_body": document.get("result_body"),
        "follow_ups": f"[{','.join(follow_ups)}]",
        **{
            name: document.get(name)
            for name in ("status", "result", "result_content_type", "traceback", "children")
        },
    }
    return Query(SQL["salvage"], params, lambda rows: bool(_ids(rows)))


def stage(*, worker: str, limit: int = 1000) -> Query[Staged]:
    """Make due jobs available; other workers that sleep on their queues are woken."""

    def read(rows: Sequence[Row]) -> Staged:
        queues = {queue: staged for queue, _, staged, _ in rows if queue is not None}
        waits = [wait for queue, wait, _, _ in rows if queue is None]
        return Staged(queues, waits[0] if waits else None)

    return Query(SQL["stage"], {"worker": worker, "limit": limit}, read)


def progress(task_id: str, state: str, meta: str | None) -> Query[bool]:
    """Show a state of the task's own while it runs (``update_state``)."""
    return Query(SQL["progress"], {"task_id": task_id, "state": state, "meta": meta}, bool)


def purge(queues: Sequence[str], *, limit: int = 1000) -> Query[int]:
    """Delete up to ``limit`` waiting jobs of ``queues``; the answer is how many."""
    params = {"queues": list(queues), "limit": limit}
    return Query(SQL["purge"], params, lambda rows: sum(row[0] is not None for row in rows))


def recount(*, age: float = 10.0) -> Query[int]:
    """Release what waits for chords that no job belongs to any more, and drop those.

    The net below the counting: rows that somebody deletes by hand are not counted.

    Args:
        age: Seconds since the chord was inserted; younger ones are left alone.

    Returns:
        How many jobs were released.
    """

    def read(rows: Sequence[Row]) -> int:
        return sum(row[0] is not None for row in rows)

    return Query(SQL["recount"], {"age": age}, read)


def prune(age: float, *, limit: int = 1000) -> Query[int]:
    """Delete up to ``limit`` jobs that ended more than ``age`` seconds ago."""
    return Query(SQL["prune"], {"age": age, "limit": limit}, len)


def count() -> Query[list[QueueCount]]:
    """How many unfinished jobs there are, by queue and state."""
    return Query(SQL["count"], {}, lambda rows: [QueueCount(*row) for row in rows])
