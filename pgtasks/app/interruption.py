"""Ending a run from outside: what is raised in a task, and who says what becomes of its job."""

from __future__ import annotations

from typing import Any

from pgtasks.exceptions import SoftTimeLimitExceeded, TaskTimeout

__all__ = ["Interruption", "limit_reached"]


class Interruption(BaseException):
    """Ends a run for good. Whoever has it raised says what becomes of the job.

    Not an `Exception`: neither the body of a task nor its handlers have a say in it.
    """


def limit_reached(task: Any) -> SoftTimeLimitExceeded:
    """What is raised in ``task`` at its soft time limit: its own ``timeout`` has a name."""
    # As in Task._take_timeout: the attribute of some base class may mean anything.
    known = {} if task is None else vars(type(task))
    if known.get("timeout") is None or "_decorated" not in known:
        return SoftTimeLimitExceeded()
    return TaskTimeout(f"The task {task.name} took longer than its timeout.")
