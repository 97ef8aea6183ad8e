"""How work-flows are combined: what ``a | b | c`` and ``chain(a, b, c)`` amount to.

Steps follow each other; a group followed by a task is a chord; a chord followed by more
has it all appended to its body; a group of one is that one, and a group of none is
nothing. All of it is decided by the last step alone, so that a chain of a thousand is
made in one pass.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import reduce
from typing import Any

from pgtasks import canvas as package
from pgtasks.canvas.signature import Signature, as_signature

__all__ = [
    "_fold_chain",
    "_merge_chain_step",
    "append_to_body",
    "ends_in_group",
    "is_empty_group",
    "maybe_unroll_group",
]


def maybe_unroll_group(group: Any) -> Any:
    """The only member of a group of one; any other group as it is."""
    tasks = group.tasks
    try:
        size = len(tasks)
    except TypeError:
        try:
            size = tasks.__length_hint__()
        except (AttributeError, TypeError):
            return group
        return next(iter(tasks)) if size == 1 else group
    return tasks[0] if size == 1 else group


def is_empty_group(task: Any) -> bool:
    """Whether ``task`` is a group without members."""
    return (
        isinstance(task, package.group)
        and isinstance(task.tasks, (list, tuple))
        and not task.tasks
    )


def ends_in_group(sig: Any) -> bool:
    """Whether what comes last in ``sig`` is a group, so that it ends with many results."""
    while True:
        if isinstance(sig, package.chord):
            sig = sig.body
        elif isinstance(sig, package._chain) and sig.tasks:
            sig = sig.tasks[-1]
        else:
            return isinstance(sig, package.group)


def _merge_chain_step(steps: list[Any], other: Any, clone_other: bool = True) -> Any:
    """Append ``other`` to the steps of a chain, which may change the last of them.

    Args:
        steps: The steps so far; they are changed, not copied.
        other: What follows.
        clone_other: Append a copy of it.

    Returns:
        ``steps``; something else where the result is no chain; NotImplemented where
        ``other`` is no signature.
    """
    last = steps[-1] if steps else None
    if isinstance(other, package.group):
        if is_empty_group(other):
            return steps
        other = maybe_unroll_group(other)
        if not isinstance(other, package.group):
            return _merge_chain_step(steps, as_signature(other), clone_other)
        if last is None:
            return other
        if isinstance(last, package.chord):
            append_to_body(last, other, clone_other)
            return steps
    elif isinstance(other, package._chain):
        return _merge_chain(steps, other.unchain_tasks())
    elif not isinstance(other, Signature):
        return NotImplemented
    elif isinstance(last, package.group):
        _close_group(steps, other, clone_other)
        return steps
    elif isinstance(last, package.chord) and not isinstance(other, package.chord):
        group = _taken_from_body(last)
        if group is None:
            append_to_body(last, other, clone_other)
        else:
            steps.append(group)
            _close_group(steps, other, clone_other)
        return steps
    steps.append(other.clone() if clone_other else other)
    return steps


def _merge_chain(steps: list[Any], inner: list[Any]) -> Any:
    remaining = iter(inner)
    for task in remaining:
        # These are copies already.
        merged = _merge_chain_step(steps, as_signature(task), clone_other=False)
        if merged is NotImplemented:
            return merged
        if merged is not steps:
            return reduce(operator.or_, remaining, merged)
    return steps


def _close_group(steps: list[Any], body: Any, clone: bool) -> None:
    """Make a chord of the group that is the last step, and of what follows it."""
    steps[-1] = package.chord(steps[-1], body.clone() if clone else body)
    if len(steps) > 1 and isinstance(steps[-2], package.chord) and ends_in_group(steps[-2]):
        # As a step of its own it would follow each task of that group.
        last = steps.pop()
        steps[-1].body = steps[-1].body | last


def _taken_from_body(chord: Any) -> Any:
    """Take the group off with which the body of ``chord`` ends, if it can be done without.

    It is going to be a chord itself, and then a step after this one. Left in the body, each
    one would be nested in the one before it.
    """
    body = chord.body
    if (
        not isinstance(body, package._chain)
        or body.options
        or len(body.tasks) < 2
        or not isinstance(body.tasks[-1], package.group)
        or isinstance(body.tasks[0], package.group)
        or "link" in chord.options
        or "link_error" in chord.options
    ):
        return None
    *tasks, group = body.tasks
    if len(tasks) == 1:
        chord.body = tasks[0]
    else:
        body.tasks = tasks
    return group


def append_to_body(chord: Any, other: Any, clone_other: bool = False) -> None:
    """Have ``other`` follow the body of ``chord``, which must be a copy that may change."""
    if not isinstance(other, (package.group, package._chain)):
        while type(chord.body) is package.chord:
            chord = chord.body  # A copy as well.
    body = chord.body
    if isinstance(body, package._chain) and body.tasks and not body.options:
        steps = list(body.tasks) if not isinstance(body.tasks, list) else body.tasks
        _merge_chain_step(steps, other, clone_other)
        body.tasks = steps
        return
    if clone_other:
        other = other.clone()
    chord.body = other if body is None else body | other


def _fold_chain(tasks: Iterable[Any]) -> Any:
    """What ``chain(X, Y, Z)`` makes: the same as ``X | Y | Z``, in one pass.

    All but the last are copied, so that the chain can be changed without them. Where the
    steps are no chain, for instance one group, the result is none either.
    """
    tasks = [as_signature(task) for task in tasks]
    steps: list[Any] = []
    whole: Any = None
    for position, task in enumerate(tasks, 1):
        if whole is None:
            merged = _merge_chain_step(steps, task, position != len(tasks))
            if merged is steps:
                continue
        else:
            merged = _followed(whole, task)
        if merged is NotImplemented:
            # The operator has the words for it.
            return reduce(operator.or_, tasks, package._chain())
        if isinstance(merged, package._chain):
            steps, whole = list(merged.tasks), None
        else:
            whole = merged
    return package._chain(steps) if whole is None else whole


def _followed(whole: Any, other: Any) -> Any:
    """``whole | other``, where ``whole`` is of our own making."""
    if (
        isinstance(whole, package.chord)
        and isinstance(other, Signature)
        and not isinstance(other, (package.group, package._chain))
    ):
        append_to_body(whole, other)
        return whole
    return whole | other
