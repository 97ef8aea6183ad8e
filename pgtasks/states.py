"""The states of a task as Celery names them, the states of a row, and the map between.

A *task state* is what ``AsyncResult.state`` shows; any string may be one, since tasks
invent their own with ``update_state``. A *job state* is what the row says; there are
eight, and they are Oban's.

================  =================  ==================================================
job state         task state         leaves to
================  =================  ==================================================
``scheduled``     PENDING            available, cancelled
``available``     PENDING            executing, cancelled
``suspended``     PENDING            available, cancelled
``executing``     PENDING, STARTED   completed, retryable, scheduled, discarded,
                  or a custom one    cancelled, available
``retryable``     RETRY              available, cancelled
``completed``     SUCCESS
``discarded``     FAILURE            available (retried by hand)
``cancelled``     REVOKED            available (retried by hand)
================  =================  ==================================================
"""

from __future__ import annotations

__all__ = [
    "ALL_STATES",
    "AVAILABLE",
    "CANCELLED",
    "COMPLETED",
    "DISCARDED",
    "EXCEPTION_STATES",
    "EXECUTING",
    "FAILURE",
    "FINISHED_JOB_STATES",
    "IGNORED",
    "JOB_STATES",
    "PENDING",
    "PROPAGATE_STATES",
    "READY_STATES",
    "RECEIVED",
    "REJECTED",
    "RETRY",
    "RETRYABLE",
    "REVOKED",
    "SCHEDULED",
    "STARTED",
    "STATUS_OF_JOB_STATE",
    "SUCCESS",
    "SUSPENDED",
    "UNFINISHED_JOB_STATES",
    "UNREADY_STATES",
    "precedence",
    "state",
    "status_of",
]

# ── task states ─────────────────────────────────────────────────────────────────────────

#: Waiting, or unknown: a result that nobody has heard of is pending too.
PENDING = "PENDING"
#: A worker has it.
RECEIVED = "RECEIVED"
#: A worker runs it; only shown where ``task_track_started`` is on.
STARTED = "STARTED"
#: It returned.
SUCCESS = "SUCCESS"
#: It raised, or its worker was lost.
FAILURE = "FAILURE"
#: It was revoked, or expired.
REVOKED = "REVOKED"
#: It was refused with ``Reject``.
REJECTED = "REJECTED"
#: It waits to run again.
RETRY = "RETRY"
#: It asked that its state be left alone.
IGNORED = "IGNORED"

#: There is a result, or there will be none.
READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
#: There may still be a result.
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
#: The result is an exception.
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
#: ``get()`` raises that exception.
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})

#: From the strongest claim about a task to the weakest; None stands for custom states.
PRECEDENCE: list[str | None] = [
    SUCCESS,
    FAILURE,
    None,
    REVOKED,
    STARTED,
    RECEIVED,
    REJECTED,
    RETRY,
    PENDING,
]
PRECEDENCE_LOOKUP = {name: rank for rank, name in enumerate(PRECEDENCE)}
NONE_PRECEDENCE = PRECEDENCE_LOOKUP[None]


def precedence(state: str | None) -> int:
    """Rank a task state; the lower the rank, the stronger its claim."""
    return PRECEDENCE_LOOKUP.get(state, NONE_PRECEDENCE)


class state(str):
    """A task state that compares by what it claims, not by its letters.

    ``state("SUCCESS") > state("PROGRESS") > state("STARTED")``: of two reports about
    the same task, the greater one is the later truth.
    """

    __slots__ = ()

    def __gt__(self, other: str) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: str) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: str) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: str) -> bool:
        return precedence(self) >= precedence(other)


# ── job states ──────────────────────────────────────────────────────────────────────────

#: Due later: eta, countdown, snoozed.
SCHEDULED = "scheduled"
#: Free to be claimed.
AVAILABLE = "available"
#: Held by hand, or waiting on other jobs.
SUSPENDED = "suspended"
#: Claimed by a worker.
EXECUTING = "executing"
#: Failed, and due again later.
RETRYABLE = "retryable"
#: Returned.
COMPLETED = "completed"
#: Failed for good.
DISCARDED = "discarded"
#: Revoked, expired, or cancelled by itself.
CANCELLED = "cancelled"

UNFINISHED_JOB_STATES = frozenset({SCHEDULED, AVAILABLE, SUSPENDED, EXECUTING, RETRYABLE})
FINISHED_JOB_STATES = frozenset({COMPLETED, DISCARDED, CANCELLED})
JOB_STATES = UNFINISHED_JOB_STATES | FINISHED_JOB_STATES

STATUS_OF_JOB_STATE = {
    SCHEDULED: PENDING,
    AVAILABLE: PENDING,
    SUSPENDED: PENDING,
    EXECUTING: PENDING,
    RETRYABLE: RETRY,
    COMPLETED: SUCCESS,
    DISCARDED: FAILURE,
    CANCELLED: REVOKED,
}


def status_of(job_state: str | None, status: str | None = None) -> str:
    """Name the task state of a row.

    Args:
        job_state: State of the row; None when there is no row.
        status: The more exact task state that the row carries, if it does: STARTED,
            REJECTED, or a custom one.
    """
    if status:
        return status
    return STATUS_OF_JOB_STATE.get(job_state or SCHEDULED, PENDING)
