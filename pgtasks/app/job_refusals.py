"""Why something cannot be done to a job in its state, and what to do instead."""

from __future__ import annotations

from pgtasks import states
from pgtasks.app.job_info import JobInfo
from pgtasks.exceptions import JobStateError

__all__ = ["refusal"]


def refusal(job: JobInfo, doing: str) -> JobStateError:
    """The error for a job that could not be ``retried``, ``held``, or whatever it was."""
    state = job.state
    what = f"Job {job.task_id} cannot be {doing}: it"
    if state == states.EXECUTING:
        why = (
            f"runs on {job.worker} since {job.attempted_at:%Y-%m-%d %H:%M:%S} UTC. Wait for its "
            f"end, or cancel it first."
        )
    elif doing == "retried" and job.finished:
        why = _not_again(job)
    elif job.finished:
        why = (
            f"is {state} since {job.finished_at:%Y-%m-%d %H:%M:%S} UTC. What is over can be "
            f"retried or deleted."
        )
    elif state == states.SUSPENDED and job.held is None and job.awaits and doing in (
        "retried", "released",
    ):  # fmt: skip
        why = (
            f"waits for the members of the chord {job.awaits}, and is released by the end of "
            f"the last one. 'pgtasks why' says which are left."
        )
    elif state == states.SUSPENDED and job.held == states.SUSPENDED and doing == "retried":
        why = (
            f"is held by hand and waits for the members of the chord {job.awaits} as well. "
            f"Release it: it runs after the last of them."
        )
    elif state == states.SUSPENDED and doing == "held":
        why = "is held already."
    elif doing == "released":
        why = f"is not held but {state}."
    elif doing == "retried":
        why = "is available already: 'pgtasks why' says what it waits for."
    elif doing == "changed" and (job.args is None or job.kwargs is None):
        why = (
            f"has arguments in {job.content_type}, signed or packed, which only its sender can "
            f"write. Cancel it and send another one."
        )
    else:
        state = "locked"
        why = (
            "is locked by another session at this moment, or has just changed its state. Try "
            "again; 'pgtasks why' shows its state."
        )
    return JobStateError(f"{what} {why}", job.task_id, state)


def _not_again(job: JobInfo) -> str:
    if not job.queue:
        return (
            "never was in a queue: a task before it in its chain failed, or its result was "
            "stored by hand. Retry the task before it."
        )
    if job.args is None and job.content_type == "application/json":
        return "had arguments too large for history to keep. Send it again."
    return (
        f"is {job.state}, and another job came in its way with the same id, or it has changed "
        f"its state just now. 'pgtasks why' shows what it is now."
    )
