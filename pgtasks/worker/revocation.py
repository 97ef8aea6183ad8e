"""Commands about tasks that shall not run, or not run on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from signal import Signals
from typing import Any

from pgtasks import serialization
from pgtasks.job import Job
from pgtasks.platforms import signals
from pgtasks.utils.functional import maybe_list
from pgtasks.worker import state as process
from pgtasks.worker.panel import State, control_command, inspect_command

__all__ = [
    "carries",
    "forgive",
    "revoke",
    "revoke_by_stamped_headers",
    "revoked",
    "terminate",
]

logger = logging.getLogger("celery.worker.control")


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(
    state: State,
    task_id: str | Iterable[str],
    terminate: bool = False,
    signal: str | int | None = None,
    reason: str | None = None,
    **kwargs: Any,
) -> Any:
    """Revoke task by task id (or list of ids)."""
    ids = {task_id} if isinstance(task_id, str) else set(task_id)
    # Those that wait have ended in the table by now; this is for what comes back to it.
    process.revoked.update(ids)
    if reason:
        state.worker.note_reason(ids, reason)
    if not terminate:
        _recall(state, ids)
        logger.info("Tasks flagged as revoked: %s", ", ".join(sorted(ids)))
        return {"ok": f"tasks {', '.join(sorted(ids))} flagged as revoked"}
    running = [job for job in state.worker.held() if job.task_id in ids]
    return _terminate(state, running, signal)


@control_command(
    variadic="headers", signature="[key1=value1 [key2=value2 [... [keyN=valueN]]]]"
)
def revoke_by_stamped_headers(
    state: State,
    headers: Mapping[str, Any] | Iterable[str],
    terminate: bool = False,
    signal: str | int | None = None,
    **kwargs: Any,
) -> Any:
    """Revoke tasks by what they were stamped with."""
    if not isinstance(headers, Mapping):
        # From the command line.
        headers = dict(word.split("=", 1) for word in headers)
    stamps = {name: set(maybe_list(value) or ()) for name, value in headers.items()}
    for name, values in stamps.items():
        process.revoked_stamps.setdefault(name, set()).update(values)
    if not terminate:
        logger.info("Stamps flagged as revoked: %s", stamps)
        return {"ok": f"headers {headers} flagged as revoked, but not terminated"}
    running = [job for job in state.worker.held() if carries(job, stamps)]
    return _terminate(state, running, signal)


def carries(job: Job, stamps: Mapping[str, set[Any]]) -> bool:
    """Whether a job has one of these stamps."""
    if not job.headers or '"stamps"' not in job.headers:
        return False
    try:
        found = serialization.loads(job.headers).get("stamps") or {}
        return any(
            values.intersection(maybe_list(found.get(name)) or ())
            for name, values in stamps.items()
        )
    except Exception:
        return False  # Written by hand; whoever runs the job says what is wrong with it.


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def forgive(state: State, task_id: str | Iterable[str], **kwargs: Any) -> Any:
    """Forget that tasks were revoked: they are to run after all."""
    ids = {task_id} if isinstance(task_id, str) else set(task_id)
    for each in ids:
        process.revoked.discard(each)
    return {"ok": f"tasks {', '.join(sorted(ids))} no longer revoked"}


def _recall(state: State, ids: set[str]) -> None:
    """Have what is claimed and not begun come back, which is when it ends as revoked."""
    running = state.worker.pool.running()
    if any(job.task_id in ids and job.id not in running for job in state.worker.held()):
        state.worker.pool.recall()


def _terminate(state: State, jobs: Iterable[Job], signal: str | int | None) -> Any:
    number = int(signals.signum(signal or "TERM"))
    jobs = list(jobs)
    ended = [job.task_id for job in jobs if state.worker.terminate_job(job, number)]
    if len(ended) < len(jobs):
        _recall(state, {job.task_id for job in jobs}.difference(ended))
        # One may have begun just now, between the two looks.
        rest = [job for job in jobs if job.task_id not in ended]
        ended += [job.task_id for job in rest if state.worker.terminate_job(job, number)]
    for each in ended:
        logger.info("Terminating %s (%s)", each, Signals(number).name)
    told = f"tasks {', '.join(ended)} terminated" if ended else "tasks unknown"
    return {"ok": f"terminate: {told}"}


@control_command(
    variadic="task_id",
    args=[("signal", str)],
    signature="<signal> [id1 [id2 [... [idN]]]]",
)
def terminate(
    state: State, signal: str | int, task_id: str | Iterable[str], **kwargs: Any
) -> Any:
    """Terminate task by task id (or list of ids)."""
    return revoke(state, task_id, terminate=True, signal=signal)


@inspect_command(alias="dump_revoked")
def revoked(state: State, **kwargs: Any) -> Any:
    """The ids that this worker was told to revoke."""
    return sorted(process.revoked)
