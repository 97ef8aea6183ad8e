"""Commands about tasks that shall not run, or not run on."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from signal import Signals
from typing import Any

from pgtasks import serialization
from pgtasks.job import Job
from pgtasks.platforms import signals
from pgtasks.storage import revocations
from pgtasks.utils.functional import maybe_list
from pgtasks.worker import state as process
from pgtasks.worker.panel import State, control_command, inspect_command

__all__ = [
    "carries",
    "forgive",
    "is_stamped",
    "prepare",
    "revoke",
    "revoke_by_stamped_headers",
    "revoked",
    "terminate",
]

logger = logging.getLogger("celery.worker.control")

MOST_SHOWN = 10_000
"""Ids that are shown of those that the table has."""


def prepare(app: Any) -> None:
    """Learn which stamps were revoked before this worker was there.

    Ids need not be learnt: each claim looks them up.
    """
    for header, stamp in app.database.run(revocations.stamps(), retry=True):
        _add_stamps({header: [serialization.loads(stamp)]})


def _add_stamps(stamps: Mapping[str, Iterable[Any]]) -> None:
    for header, values in stamps.items():
        known = process.revoked_stamps.setdefault(header, [])
        known += [value for value in values if value not in known]


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
    ended = _terminate(state, running, signal)
    return {"ok": f"terminate: {', '.join(ended) or 'tasks unknown'}"}


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
    stamps = {name: list(maybe_list(value) or ()) for name, value in headers.items()}
    _add_stamps(stamps)
    if not terminate:
        logger.info("Stamps flagged as revoked: %s", stamps)
        return {"ok": f"headers {headers} flagged as revoked, but not terminated"}
    carried = {job.id: carries(job, stamps) for job in state.worker.held()}
    running = [job for job in state.worker.held() if carried.get(job.id)]
    ended = {job.id for job in running if job.task_id in _terminate(state, running, signal)}
    found: dict[str, set[Any]] = defaultdict(set)
    for id in ended:
        for name, values in carried[id].items():
            found[name].update(values)
    if not found:
        return {"ok": f"headers {headers} were not terminated"}
    return {"ok": f"headers {dict(found)} revoked"}


def is_stamped(job: Job) -> bool:
    """Whether a job may have stamps."""
    return job.headers is not None and '"stamps"' in job.headers


def carries(job: Job, stamps: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """Which of these stamps a job has, by the name of the header."""
    if not is_stamped(job) or job.headers is None:
        return {}
    try:
        told = serialization.loads(job.headers).get("stamps") or {}
        found = {
            name: [each for each in maybe_list(told.get(name)) or () if each in values]
            for name, values in stamps.items()
        }
    except Exception:
        return {}  # Written by hand; whoever runs the job says what is wrong with it.
    return {name: values for name, values in found.items() if values}


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def forgive(state: State, task_id: str | Iterable[str], **kwargs: Any) -> Any:
    """Forget that tasks were revoked: they are to run after all."""
    ids = {task_id} if isinstance(task_id, str) else set(task_id)
    for each in ids:
        process.revoked.discard(each)
    return {"ok": f"tasks {', '.join(sorted(ids))} no longer revoked"}


def _recall(state: State, ids: set[str]) -> None:
    """Have what is claimed and not begun come back, which is when it ends as revoked."""
    state.worker.let_go(ids)
    running = state.worker.pool.running()
    if any(job.task_id in ids and job.id not in running for job in state.worker.held()):
        state.worker.pool.recall()


def _terminate(state: State, jobs: list[Job], signal: str | int | None) -> list[str]:
    """Signal the processes that run these jobs; the answer is the ids of the tasks."""
    number = int(signals.signum(signal or "TERM"))
    ended = [job.task_id for job in jobs if state.worker.terminate_job(job, number)]
    if len(ended) < len(jobs):
        _recall(state, {job.task_id for job in jobs}.difference(ended))
        # One may have begun just now, between the two looks.
        rest = [job for job in jobs if job.task_id not in ended]
        ended += [job.task_id for job in rest if state.worker.terminate_job(job, number)]
    for each in ended:
        logger.info("Terminating %s (%s)", each, Signals(number).name)
    return ended


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
    """The ids that are revoked: those that this worker was told, and the table's newest."""
    kept = state.app.database.run(revocations.newest(MOST_SHOWN), timeout=5.0)
    return sorted({*process.revoked, *kept})
