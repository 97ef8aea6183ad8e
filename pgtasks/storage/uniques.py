"""Unique jobs: keys that are taken with an insert, and turns that are taken with a start."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple

from pgtasks.job import Job, NewJob
from pgtasks.storage.errors import StorageBusy
from pgtasks.storage.jobs import FINAL_STATES, Inserted, plain
from pgtasks.storage.query import Query, Row, load

__all__ = [
    "Forgotten", "aanswer", "answer", "concern", "forget", "forget_turns", "insertion",
    "pass_on", "take_turns",
]  # fmt: skip

SQL = load("uniques.sql")

#: Tries of one insert that came to nothing, for somebody else had committed the same key
#: meanwhile. Whoever loses so often meets no twin but a mistake of ours.
MOST_TRIES = 100

#: In one of these every job begins.
BIRTHS = frozenset({"suspended", "scheduled", "available"})

_Rounds = Generator[Query[list["_Answer"]], list["_Answer"], list[Inserted]]


class _Answer(NamedTuple):
    id: int | None
    task_id: str
    holder: str | None
    verdict: str | None


def concern(jobs: Sequence[NewJob]) -> bool:
    """Whether one of these jobs has a key, so that `insertion` must insert them."""
    return any(job.uniqueness is not None for job in jobs)


def insertion(
    jobs: Sequence[NewJob],
    *,
    again: bool = False,
    wake: str = "coalesced",
    durable: bool = True,
) -> _Rounds:
    """Insert ``jobs``, or find those that have their keys; for `answer` or `aanswer`.

    Nearly always that is one statement. It is more where a job of the list has the key of
    another before it and may replace it, and where somebody else has just taken a key: what
    a statement cannot see yet, the next one can.

    Args:
        jobs: As of `pgtasks.storage.jobs.insert`.
        again: Likewise. Keys that the first try has taken are ours.
        wake: Likewise.
        durable: Likewise.

    Returns:
        For each job its row; or the row and the id of the job that has its key, as a
        conflict.

    Raises:
        StorageBusy: Others were faster a hundred times.
    """
    found: list[Inserted | None] = [None] * len(jobs)
    pending = list(range(len(jobs)))
    held, in_vain = False, 0
    while pending:
        now = _lineup(jobs, pending, held)
        answers = yield _insert([jobs[at] for at in now.values()], again, wake, durable)
        by_id = {each.task_id: each for each in reversed(answers) if each.verdict}
        for at in now.values():
            found[at] = _read(jobs[at], by_id.get(jobs[at].task_id), again)
        for at in pending:
            leader = now.get(jobs[at].unique_key or at, at)
            if leader != at:
                found[at] = _like(jobs, at, leader, found[leader])
        left = [at for at in pending if found[at] is None]
        held, in_vain = True, in_vain + 1 if len(left) == len(pending) else 0
        if in_vain == MOST_TRIES:
            raise StorageBusy(
                f"The unique key of {jobs[left[0]].task} was taken by somebody else at each "
                f"of {in_vain} tries, and free again at the next.",
                not_run=True,
            )
        pending = left
    return [each for each in found if each is not None]


def _lineup(
    jobs: Sequence[NewJob], pending: Sequence[int], held: bool
) -> dict[str | int, int]:
    """Which jobs go now, by key: of those that share one the first.

    Once somebody has it, it is the last where it may replace: what the others before it
    would put in place, it would replace again.
    """
    now: dict[str | int, int] = {}
    for at in pending:
        rule, key = jobs[at].uniqueness, jobs[at].unique_key
        if rule is None or key is None or rule.get("forced"):
            now[at] = at
            continue
        first = now.setdefault(key, at)
        if held and "replaces" in rule and rule == jobs[first].uniqueness:
            now[key] = at
    return now


def _read(job: NewJob, answer: _Answer | None, again: bool) -> Inserted | None:
    """What became of a job; None if somebody else was faster, and it must ask again."""
    if answer is None:
        unclear = job.uniqueness is not None and not job.uniqueness.get("forced")
        return None if unclear else Inserted(None, job.task_id, not again)
    if answer.verdict == "inserted":
        return Inserted(answer.id, job.task_id, False)
    if answer.verdict == "held" and answer.holder != job.task_id:
        return Inserted(answer.id, str(answer.holder), True)
    # Its own id is taken: by what the first try has inserted, or by another job.
    return Inserted(answer.id, job.task_id, not again)


def _like(
    jobs: Sequence[NewJob], at: int, leader: int, answer: Inserted | None
) -> Inserted | None:
    """What became of a job if it was kept out together with, or by, the leader of its key."""
    rule = jobs[at].uniqueness or {}
    if answer is None or answer.id is None or rule != jobs[leader].uniqueness:
        return None
    if rule.get("forced"):
        return None
    if "replaces" in rule:
        # Not before it has replaced something, or has been replaced itself.
        kept_out = leader > at
    else:
        kept_out = answer.conflict or BIRTHS.issubset(rule["blocks"])
    return Inserted(answer.id, answer.task_id, True) if kept_out else None


def _insert(
    jobs: Sequence[NewJob], again: bool, wake: str, durable: bool
) -> Query[list[_Answer]]:
    if len(jobs) == 1 and not again:
        values = _plain(jobs[0])
        if values is not None:
            values.update(wake=wake, durable=durable)
            return Query(SQL["insert_one"], values, _answers)
    documents = []
    replaces = False
    for job in jobs:
        document = job.document()
        rule = document.pop("uniqueness", None)
        if rule is not None:
            document.update(rule)
            replaces = replaces or "replaces" in rule
        documents.append(document)
    params = {
        "jobs": json.dumps(documents), "again": again, "wake": wake, "durable": durable
    }  # fmt: skip
    if replaces:
        return Query(SQL["insert_or_replace"], params, _answers)
    return Query(SQL["insert"], params, _answers)


def _plain(job: NewJob) -> dict[str, Any] | None:
    """The values of a job that is plain but for its key; None if there is more to it."""
    rule, key = job.uniqueness, job.unique_key
    if rule is None or key is None or "forced" in rule or "replaces" in rule:
        return None
    job.uniqueness = job.unique_key = None
    values = plain(job)
    job.uniqueness, job.unique_key = rule, key
    if values is None:
        return None
    period, by_schedule = rule.get("period"), rule.get("by_schedule", False)
    values.update(
        unique_key=key,
        # As text, which every driver can carry at once.
        blocks=f"{{{','.join(rule['blocks'])}}}",
        period=period,
        by_schedule=by_schedule,
        lasts=not FINAL_STATES.isdisjoint(rule["blocks"]),
    )
    return values


def _answers(rows: Sequence[Row]) -> list[_Answer]:
    return [_Answer._make(row[:4]) for row in rows]


def answer(rounds: _Rounds, run: Callable[[Query[Any]], Any]) -> list[Inserted]:
    """Take `insertion` to its end.

    Args:
        rounds: What it returned.
        run: Runs a query, each in a snapshot of its own.
    """
    try:
        query = next(rounds)
        while True:
            query = rounds.send(run(query))
    except StopIteration as end:
        return list(end.value)


async def aanswer(
    rounds: _Rounds, run: Callable[[Query[Any]], Awaitable[Any]]
) -> list[Inserted]:
    """`answer` for coroutines."""
    try:
        query = next(rounds)
        while True:
            query = rounds.send(await run(query))
    except StopIteration as end:
        return list(end.value)


# ── turns ───────────────────────────────────────────────────────────────────────────────


def take_turns(keys: Sequence[tuple[Job, str]]) -> Query[set[int]]:
    """Take the turns of jobs that were claimed, or put them back to wait for it.

    Args:
        keys: The jobs, each with its key.

    Returns:
        Rows of the jobs that may begin.
    """
    documents = [
        {"id": job.id, "claim_token": job.claim_token, "key": key, "priority": job.priority}
        for job, key in keys
    ]
    return Query(
        SQL["take_turns"],
        {"jobs": json.dumps(documents)},
        lambda rows: {row[0] for row in rows},
    )


def pass_on(keys: Sequence[str]) -> Query[set[str]]:
    """Have the first job run that waits for each of these turns, if the turn is over.

    Returns:
        The queues in which there is a job now.
    """
    return Query(
        SQL["pass_on"],
        {"keys": sorted(set(keys))},
        lambda rows: {row[0] for row in rows},
    )


# ── tidying up ──────────────────────────────────────────────────────────────────────────


class Forgotten(NamedTuple):
    """How many keys were deleted, and behind which to go on; None at the end."""

    keys: int
    last: str | None


def forget(after: str = "", *, limit: int = 1000) -> Query[Forgotten]:
    """Delete keys that keep nobody out any more, of the next ``limit`` behind ``after``."""
    return Query(
        SQL["forget"],
        {"after": after, "limit": limit},
        lambda rows: Forgotten(rows[0][1], rows[0][0]),
    )


def forget_turns() -> Query[int]:
    """Delete turns that are over; the answer is how many."""
    return Query(SQL["forget_turns"], {}, lambda rows: int(rows[0][0]))
