"""Commands about tasks that shall not run, or not run on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from signal import Signals
from typing import Any

from pgtasks.platforms import signals
from pgtasks.worker import state as process
from pgtasks.worker.panel import State, control_command, inspect_command

__all__ = ["revoke", "revoked", "terminate"]

logger = logging.getLogger("celery.worker.control")


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(
    state: State,
    task_id: str | Iterable[str],
    terminate: bool = False,
    signal: str | int | None = None,
    **kwargs: Any,
) -> Any:
    """Revoke task by task id (or list of ids)."""
    ids = {task_id} if isinstance(task_id, str) else set(task_id)
    # Those that wait have ended in the table by now; this is for what comes back to it.
    process.revoked.update(ids)
    if not terminate:
        logger.info("Tasks flagged as revoked: %s", ", ".join(sorted(ids)))
        return {"ok": f"tasks {', '.join(sorted(ids))} flagged as revoked"}
    number = int(signals.signum(signal or "TERM"))
    running = [job for job in state.worker.held() if job.task_id in ids]
    ended = [job.task_id for job in running if state.worker.terminate_job(job, number)]
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
