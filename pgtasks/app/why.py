"""Why a job does not run: ``app.jobs.why(id)`` and ``pgtasks why``.

Each check looks at one cause and answers with a `Reason`, or with nothing. The first reason
is the one that holds the job up now; those behind it would once that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pgtasks import states
from pgtasks.app.why_limits import limited, out_of_turn
from pgtasks.app.why_reasons import (
    Diagnosis,
    Question,
    Reason,
    knows,
    shown_moment,
)
from pgtasks.utils.text import pluralize, short_span

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.app.job_info import JobInfo

__all__ = ["CHECKS", "Diagnosis", "Reason", "diagnose"]


def diagnose(app: Celery, job: JobInfo) -> Diagnosis:
    """Say why ``job`` does not run."""
    question = Question(app, job)
    return Diagnosis(job, [reason for check in CHECKS for reason in check(question)])


# ── it is over, or runs ─────────────────────────────────────────────────────────────────


def over(question: Question) -> Iterator[Reason]:
    """It has ended."""
    job = question.job
    if not job.finished:
        return
    words = {
        states.COMPLETED: "It has succeeded",
        states.DISCARDED: "It has failed",
        states.CANCELLED: "It was cancelled",
    }
    text = f"{words[job.state]}, {shown_moment(job.finished_at, question.now)}"
    error = job.error
    if error is not None and job.state != states.COMPLETED:
        text += f", at attempt {_attempts(job)}: {_said(error)}"
    elif job.state == states.CANCELLED and job.expires_at and job.finished_at:
        text += " (it had expired)" if job.expires_at <= job.finished_at else ""
    again = (
        ""
        if job.state == states.COMPLETED
        else f"To run it again: pgtasks jobs retry {job.task_id}"
    )
    if not job.queue:
        text = (
            f"It never came to be a job: a task before it in its chain ended without success, "
            f"{shown_moment(job.finished_at, question.now)}"
        )
        again = (
            f"Retry the task before it: pgtasks why {job.parent_id}"
            if job.parent_id
            else ""
        )
    yield Reason(
        job.state, f"{text}.", again, {"finished_at": _iso(job.finished_at), "error": error}
    )


def executing(question: Question) -> Iterator[Reason]:
    """It runs."""
    job = question.job
    if job.state != states.EXECUTING:
        return
    since = shown_moment(job.attempted_at, question.now)
    data = {"worker": job.worker, "since": _iso(job.attempted_at), "attempt": job.attempt}
    holder = next((each for each in question.alive if each.id == job.worker_id), None)
    if holder is None:
        yield Reason(
            "lost",
            f"It was claimed by {job.worker}, {since}, and that worker is not heard of any more.",
            "Other workers give it back, or end it with WorkerLostError, when its lease is "
            "over. If there is no other worker, start one.",
            data,
        )
        return
    yield Reason(
        "executing",
        f"It runs on {job.worker}, claimed {since}, attempt {_attempts(job)}.",
        f"To end it: pgtasks jobs cancel {job.task_id}",
        data,
    )


# ── it may not run yet ──────────────────────────────────────────────────────────────────


def held(question: Question) -> Iterator[Reason]:
    """A person holds it."""
    job = question.job
    if job.state != states.SUSPENDED:
        return
    if job.held is not None:
        yield Reason(
            "held",
            f"It is held by hand; released, it will be {job.held}.",
            f"To release it: pgtasks jobs release {job.task_id}",
            {"held": job.held},
        )
    elif job.awaits is None and not question.gates:
        yield Reason(
            "held",
            "It is suspended and waits for no chord: somebody has set its state by hand.",
            f"To release it: pgtasks jobs release {job.task_id}",
        )


def awaiting(question: Question) -> Iterator[Reason]:
    """It is the body of a chord."""
    job = question.job
    chord = job.awaits
    if (
        job.state != states.SUSPENDED
        or chord is None
        or job.held not in (None, states.SUSPENDED)
    ):
        return
    from pgtasks.storage import diagnosis

    found = question.ask("members", lambda: diagnosis.members(chord))
    data = {
        "chord": chord,
        "left": found.left,
        "members": [
            {"task_id": task_id, "task": task, "state": state}
            for task_id, task, state in found.some
        ],
    }
    if not found.left:
        yield Reason(
            "awaits",
            f"It waits for the chord {chord}, of which no member is left: they were deleted by "
            f"hand, or are on their way.",
            "A worker notices within half a minute and lets it run.",
            data,
        )
        return
    some = ", ".join(f"{task}[{task_id}] is {state}" for task_id, task, state in found.some)
    more = ", …" if found.left > len(found.some) else ""
    yield Reason(
        "awaits",
        f"It waits for {found.left} {pluralize(found.left, 'member')} of the chord {chord}: "
        f"{some}{more}.",
        f"Why those have not ended: pgtasks why {found.some[0][0]}",
        data,
    )


def later(question: Question) -> Iterator[Reason]:
    """Its time has not come."""
    job = question.job
    if job.state not in (states.SCHEDULED, states.RETRYABLE):
        return
    due, now = job.scheduled_at, question.now
    moment = shown_moment(due, now) if due else "at no time that a calendar has"
    overdue = due is not None and (now - due).total_seconds() > 5
    data = {"scheduled_at": _iso(due), "attempt": job.attempt, "error": job.error}
    now_then = f"To run it now: pgtasks jobs retry {job.task_id}"
    if job.state == states.RETRYABLE:
        text = f"It failed at attempt {_attempts(job)}"
        text += f" ({_said(job.error)})" if job.error else ""
        yield Reason("retryable", f"{text} and runs again {moment}.", now_then, data)
    else:
        snoozed = job.meta.get("snoozed")
        text = f"It is scheduled: due {moment}"
        text += (
            f", after {snoozed} {pluralize(snoozed, 'snooze')}"
            if isinstance(snoozed, int)
            else ""
        )
        yield Reason("scheduled", f"{text}.", now_then, data)
    if overdue:
        yield Reason(
            "not_staged",
            "Its time has come and nobody has noticed: no worker makes due jobs available.",
            "Any worker of this database does. Start one, or see what holds it up: pgtasks doctor",
        )


def expired(question: Question) -> Iterator[Reason]:
    """It may not begin any more."""
    job = question.job
    if job.finished or job.state == states.EXECUTING or job.expires_at is None:
        return
    if job.expires_at <= question.now:
        yield Reason(
            "expired",
            f"It expired {shown_moment(job.expires_at, question.now)}: the worker that comes to "
            f"it will cancel it.",
            f"To have it run all the same: pgtasks jobs update {job.task_id} --set expires=never",
            {"expires_at": _iso(job.expires_at)},
        )


# ── it may run, and nobody runs it ──────────────────────────────────────────────────────


def paused(question: Question) -> Iterator[Reason]:
    """Its queue is paused."""
    from pgtasks.storage import diagnosis

    job = question.job
    if job.finished or job.state == states.EXECUTING:
        return
    since = question.ask("paused", lambda: diagnosis.paused(job.queue))
    if since is not None:
        moment = datetime.fromtimestamp(since, timezone.utc)
        yield Reason(
            "paused",
            f"Its queue {job.queue} was paused {shown_moment(moment, question.now)}.",
            f"To resume it: pgtasks queues resume {job.queue}",
            {"queue": job.queue, "paused_at": moment.isoformat()},
        )


def unserved(question: Question) -> Iterator[Reason]:
    """No worker serves its queue."""
    job = question.job
    if job.finished or job.state == states.EXECUTING or question.serving:
        return
    start = f"Start one: pgtasks worker -Q {job.queue}"
    if not question.alive:
        yield Reason("no_worker", "There is no worker at all.", start, {"queue": job.queue})
        return
    served = "; ".join(
        f"{each.name} serves {', '.join(each.queues)}" for each in question.alive
    )
    yield Reason(
        "no_worker",
        f"No worker serves its queue {job.queue}: {served}.",
        f"{start}, or have one serve it, too: pgtasks control add_consumer {job.queue}",
        {
            "queue": job.queue,
            "workers": {each.name: list(each.queues) for each in question.alive},
        },
    )


def unknown(question: Question) -> Iterator[Reason]:
    """No worker that serves its queue knows its task."""
    job = question.job
    if job.finished or job.state == states.EXECUTING or not question.serving:
        return
    ignorant = [each.name for each in question.serving if not knows(each, job.task)]
    if not ignorant:
        return
    names = ", ".join(ignorant)
    remedy = (
        "Import the module that defines it there (the setting 'imports', or -I), and restart "
        "the worker. What came before ends as discarded, and can be retried."
    )
    data = {"task": job.task, "workers": ignorant}
    if not question.knowing:
        text = f"No worker that serves its queue knows the task {job.task}: {names}."
        yield Reason("not_registered", text, remedy, data)
    else:
        one = len(ignorant) == 1
        text = (
            f"{names} {'serves' if one else 'serve'} its queue and {'does' if one else 'do'} not "
            f"know the task {job.task}: it fails if it is claimed there."
        )
        yield Reason("partly_registered", text, remedy, data)


def crowded(question: Question) -> Iterator[Reason]:
    """Others go before it, or hold all places."""
    from pgtasks.storage import diagnosis

    job = question.job
    tried = job.state == states.SUSPENDED and job.held is None and job.awaits is None
    if job.state != states.AVAILABLE and not (tried and question.gates):
        return
    found = question.ask("ahead", lambda: diagnosis.ahead(job.id))
    if found is None:
        return
    if found.locked:
        yield Reason(
            "locked",
            "Another session holds its row locked, and workers step over it.",
            "Find a transaction that was left open: pgtasks doctor",
        )
    serving = question.serving
    if not serving:
        return
    busy = question.ask(
        "occupied", lambda: diagnosis.occupied([each.id for each in serving])
    )
    running = {each.worker: each.running for each in busy}
    free = sum(max(0, each.concurrency - running.get(each.id, 0)) for each in serving)
    places = sum(each.concurrency for each in serving)
    most = (
        f"{found.jobs:,}"
        if found.jobs < diagnosis.MOST_AHEAD
        else f"at least {found.jobs:,}"
    )
    data = {
        "ahead": found.jobs,
        "free": free,
        "places": places,
        "running": [each._asdict() for each in busy],
    }
    before = "goes" if found.jobs == 1 else "go"
    waits = (
        f"{most} {pluralize(found.jobs, 'job')} of its queue {before} before it"
        if found.jobs
        else "it is the next of its queue"
    )
    if free:
        claimers = ", ".join(each.name for each in serving)
        yield Reason(
            "next",
            f"It may run, and {waits}; {free} of {places} {pluralize(places, 'place')} "
            f"{'is' if free == 1 else 'are'} free on {claimers}.",
            "It should begin within a second for each that goes before it. If it does not, "
            "the log of the worker says why: pgtasks doctor",
            data,
        )
        return
    names = {each.id: each.name for each in serving}
    what = ", ".join(
        f"{each.task}[{each.task_id}] for {short_span(each.since)} on {names[each.worker]}"
        for each in sorted(busy, key=lambda each: -each.since)[:3]
    )
    yield Reason(
        "busy",
        f"All {places} {pluralize(places, 'place')} for its queue are taken: {what}; {waits}.",
        "More places: a larger --concurrency, or another worker. Sooner than others: "
        f"pgtasks jobs reprioritise {job.task_id} --to 0",
        data,
    )


#: In the order in which causes are told. Whoever has another one adds a check here.
CHECKS: list[Callable[[Question], Iterator[Reason]]] = [
    over, executing, held, awaiting, later, out_of_turn, expired, paused, limited, unserved,
    unknown, crowded,
]  # fmt: skip


# ── words ───────────────────────────────────────────────────────────────────────────────


def _attempts(job: JobInfo) -> str:
    return f"{job.attempt} of {job.max_attempts}" if job.max_attempts else f"{job.attempt}"


def _said(error: dict[str, Any]) -> str:
    return f"{error.get('kind')}: {error.get('message')}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
