"""A task that has another one take its place: ``raise self.replace(other.s())``.

What replaces it has its id, its callbacks and errbacks, its place in a group or chord, and
is followed by the rest of its chain, so that whoever waits for it need not know. The job
itself ends without a result.
"""

from __future__ import annotations

import operator
from contextlib import nullcontext
from functools import reduce
from typing import Any

from pgtasks.app import outcome
from pgtasks.canvas import _chain, _chord, _fold_chain, group, signature
from pgtasks.exceptions import Ignore, ImproperlyConfigured
from pgtasks.result import allow_join_result
from pgtasks.utils.functional import maybe_list

__all__ = ["add_to_chord", "on_replace", "replace"]


def replace(task: Any, sig: Any) -> Any:
    """Make ``sig`` take the place of the run of ``task`` that is under way.

    Args:
        task: The task.
        sig: What replaces it: a signature of any kind. It is changed.

    Returns:
        In an eager run the result of ``sig``.

    Raises:
        Ignore: In a worker, always: the replaced run has no result of its own.
        ImproperlyConfigured: ``sig`` is an empty chain, or in a chord already.
    """
    request = task.request
    if "chord" in sig.options:
        raise ImproperlyConfigured(
            f"{task.name} cannot be replaced with {sig!r}, which is part of a chord "
            f"already. Replace it with a clone() from before it was put there."
        )
    if isinstance(sig, _chain) and not sig.tasks:
        raise ImproperlyConfigured(
            f"Cannot replace with an empty chain, which has no result: {task.name} needs at "
            f"least one task in its place."
        )
    sig = _with_one_result(task.app, sig)
    if not request.is_eager:
        # There this run ends with the value, and calls them itself.
        _take_callbacks(sig, request)
    # Results that have been handed out know the task by this id.
    sig.freeze(request.id)
    nesting = (request.get("replaced_task_nesting", 0) or 0) + 1
    sig.set(
        chord=request.chord,
        group_id=request.group,
        group_index=request.group_index,
        root_id=request.root_id,
        replaced_task_nesting=nesting,
    )
    if isinstance(sig, _chain):
        for step in sig.tasks:
            step.set(replaced_task_nesting=nesting)
    return task.on_replace(_followed_by(sig, request.chain, nesting, task.app))


def on_replace(task: Any, sig: Any) -> Any:
    """Send what replaces ``task``, or run it if the task runs eagerly itself.

    What is sent exists only if the end of the replaced job is accepted.
    """
    if task.request.is_eager:
        with allow_join_result():
            return sig.apply().get()
    ending = outcome.current()
    with nullcontext() if ending is None else ending.replacing():
        sig.delay()
    raise Ignore("Replaced by new task")


def add_to_chord(task: Any, sig: Any, lazy: bool = False) -> Any:
    """Add ``sig`` to the header of the chord that the run of ``task`` is a member of.

    The body then waits for it as well, and gets its result.

    Args:
        task: The task.
        sig: The signature.
        lazy: Do not send it: the caller calls ``sig.delay()``.

    Returns:
        The result; ``sig`` if ``lazy``.

    Raises:
        ValueError: The task is not in the header of a chord.
    """
    request = task.request
    if not request.chord:
        raise ValueError(
            f"Current task is not member of any chord: {task.name} runs on its own, so "
            f"there is nothing to add {sig!r} to."
        )
    sig.set(
        group_id=request.group,
        group_index=request.group_index,
        chord=request.chord,
        root_id=request.root_id,
    )
    result = sig.freeze()
    task.backend.add_to_chord(request.group, result)
    return sig if lazy else sig.delay()


def _with_one_result(app: Any, sig: Any) -> Any:
    """The signature with what makes one result of a group's, where it ends in one."""
    if isinstance(sig, group):
        return sig | app.tasks["celery.accumulate"].s(index=0)
    if isinstance(sig, _chain) and isinstance(sig.tasks[-1], group):
        tasks = list(sig.tasks)
        tasks[-1] |= app.tasks["celery.accumulate"].s(index=0)
        sig.tasks = tasks
    return sig


def _take_callbacks(sig: Any, request: Any) -> None:
    for callback in maybe_list(request.callbacks) or ():
        sig.link(callback)
    for errback in maybe_list(request.errbacks) or ():
        sig.link_error(errback)
    if isinstance(sig, _chain) and "link" in sig.options:
        # Its last task's, for more may follow. Left here as well they would be called twice.
        sig.tasks[-1].extend_list_option("link", sig.options.pop("link"))


def _followed_by(sig: Any, rest: Any, nesting: int, app: Any) -> Any:
    """The signature with the rest of the chain that the replaced task was in."""
    if not rest:
        return sig
    tasks = [signature(each, app=app) for each in reversed(rest)]
    for each in tasks:
        each.set(replaced_task_nesting=nesting)
    if isinstance(sig, _chord):
        return reduce(operator.or_, tasks, sig)
    # In one pass: the rest may be long.
    return _fold_chain(
        [*(sig.unchain_tasks() if isinstance(sig, _chain) else [sig]), *tasks]
    )
