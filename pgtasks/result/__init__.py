"""Results: what a caller holds in its hands after it has sent a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pgtasks._state import _set_task_join_will_block, task_join_will_block

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
    "traced_by_worker",
]

#: Whether a worker runs a task in this context. Of this context alone: in a pool of threads
#: others may wait for results while tasks run.
traced_by_worker: ContextVar[bool] = ContextVar("pgtasks.traced_by_worker", default=False)

E_WOULDBLOCK = """\
Never call result.get() within a task!
The task would hold its place in the worker while it waits for another one, and a worker \
whose places all wait never moves again. Link the tasks instead (chain, group, chord, \
link=), or pass disable_sync_subtasks=False if other workers run the one waited for.\
"""


def assert_will_not_block() -> None:
    """Refuse to wait for a result inside a task.

    Raises:
        RuntimeError: A task is running here that did not allow it.
    """
    if traced_by_worker.get() or task_join_will_block():
        raise RuntimeError(E_WOULDBLOCK)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let the body wait for results although a task runs it."""
    before = task_join_will_block()
    _set_task_join_will_block(False)
    token = traced_by_worker.set(False)
    try:
        yield
    finally:
        traced_by_worker.reset(token)
        _set_task_join_will_block(before)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbid the body to wait for results."""
    before = task_join_will_block()
    _set_task_join_will_block(True)
    try:
        yield
    finally:
        _set_task_join_will_block(before)


# Below, because these modules ask the functions above, under this module's name: tests
# replace ``result.task_join_will_block`` here.
from pgtasks.result.async_result import AsyncResult  # noqa: E402
from pgtasks.result.eager import EagerResult  # noqa: E402
from pgtasks.result.group_result import GroupResult, result_from_tuple  # noqa: E402
from pgtasks.result.meta import ResultBase  # noqa: E402
from pgtasks.result.result_set import ResultSet  # noqa: E402
