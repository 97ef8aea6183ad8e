"""Why a job does not run: its limits are reached, or another one has its turn."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pgtasks import states
from pgtasks.app.why_reasons import Question, Reason, shown_moment
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.storage.diagnosis import Gate

__all__ = ["limited", "out_of_turn"]


def limited(question: Question) -> Iterator[Reason]:
    """A limit of the fleet is reached."""
    job = question.job
    waits = job.state == states.SUSPENDED and job.held is None
    if not (waits or job.state == states.AVAILABLE):
        return
    for gate in question.gates:
        if not (gate.full or gate.free_at > question.now.timestamp()):
            continue
        yield Reason(
            "limited",
            f"{_said(gate, question.now)}{' It stands in that line.' if gate.waits else ''}",
            _remedy(gate, job.queue),
            {
                "limit": gate.limit,
                "key": gate.key,
                "running": gate.running,
                "concurrency": gate.concurrency,
                "rate": gate.rate,
                "period": gate.period,
            },
        )


def _said(gate: Gate, now: datetime) -> str:
    what = f"The limit {gate.limit}{f' for {gate.key}' if gate.key else ''} is reached"
    if gate.full:
        jobs = f"{gate.running} {pluralize(gate.running, 'job')}"
        verb = "runs" if gate.running == 1 else "run"
        return f"{what}: {jobs} {verb} of {gate.concurrency} at a time."
    free = datetime.fromtimestamp(gate.free_at, timezone.utc)
    return (
        f"{what}: {gate.rate} may start within {gate.period:g} s, and the next may "
        f"{shown_moment(free, now)}."
    )


def _remedy(gate: Gate, queue: str) -> str:
    if gate.limit.startswith("queue:"):
        return f"To see it: pgtasks queues. It is set by app.queues.limit({queue!r}, …)."
    return (
        "It is an option of the task. It runs when one of the others has ended, or in time."
    )


def out_of_turn(question: Question) -> Iterator[Reason]:
    """Another job has its turn: of those with its key one runs at a time."""
    from pgtasks.storage import diagnosis

    job = question.job
    if job.finished or job.state == states.EXECUTING:
        return
    holder = question.ask("turn", lambda: diagnosis.turn(job.id))
    if holder is not None:
        yield Reason(
            "twin",
            f"Of the jobs with its unique key one runs at a time, and now that is {holder}.",
            f"Why that has not ended: pgtasks why {holder}",
            {"holder": holder},
        )
