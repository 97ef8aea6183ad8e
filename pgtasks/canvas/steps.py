"""How a chain is made ready to be sent: its steps, each with its id and its result.

Nested chains are spliced in, groups that something follows become the headers of chords,
and the tail of a chord's body becomes steps of its own. Then every step gets its id, from
the last to the first, for each must know what follows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from pgtasks import canvas as package
from pgtasks.canvas.chord_bodies import (
    _strip_chord_header_links,
    is_chain_led_by_task,
    unrolled_body,
)
from pgtasks.canvas.folding import ends_in_group, is_empty_group, maybe_unroll_group
from pgtasks.canvas.members import member_of
from pgtasks.canvas.signature import Signature, as_signature
from pgtasks.utils.functional import maybe_list

__all__ = ["flat_steps", "freeze_steps", "prepare_steps"]


def prepare_steps(
    args: Iterable[Any] | None,
    kwargs: Mapping[str, Any] | None,
    tasks: Iterable[Any],
    app: Any,
    *,
    root_id: str | None = None,
    last_task_id: str | None = None,
    group_id: str | None = None,
    chord: Any = None,
    group_index: int | None = None,
    link_error: Any = None,
    use_link: bool = False,
    clone: bool = True,
) -> tuple[list[Any], list[Any]]:
    """The steps of a chain, frozen, and their results; the last one first.

    Args:
        args: Arguments that go in front of those of the first step.
        kwargs: Keyword arguments for the first step.
        tasks: The tasks of the chain.
        app: The application.
        root_id: Id of the first task of the work-flow.
        last_task_id: Id for the last step.
        group_id: Group of the last step.
        chord: Body of the chord in whose header the last step is.
        group_index: Place of the last step in the group.
        link_error: Errbacks for every step.
        use_link: Link each step to the one before it, in place of the option ``chain``.
        clone: Work on copies. Otherwise ids are given to the tasks of the chain
            themselves, and it stays as it was written.
    """
    steps, args, kwargs = flat_steps(tasks, app, args, kwargs, split=clone)
    if clone:
        steps = [
            called_with(step, args, kwargs) if number == 0 else step.clone()
            for number, step in enumerate(steps)
        ]
    elif steps and args and not steps[0].immutable:
        steps[0].args = (*args, *steps[0].args)
    frozen, results = freeze_steps(
        _with_chords(steps, root_id, app),
        app,
        root_id=root_id,
        last={
            "_id": last_task_id,
            "group_id": group_id,
            "chord": chord,
            "group_index": group_index,
        },
        link_error=link_error,
        use_link=use_link,
    )
    # Groups share their members with the chords that are made of them, and are not to hold
    # in each of these all that follows.
    written = set() if clone else {id(step) for step in steps}
    for step in frozen:
        if id(step) not in written:
            _strip_chord_header_links(step)
    return frozen, results


def called_with(step: Any, args: Any, kwargs: Any) -> Any:
    """A copy of a step with more arguments, which those of a group are its members'."""
    copy = step.clone(args, kwargs)
    if (args or kwargs) and isinstance(step, package.group):
        copy.tasks = [
            called_with(member_of(task, step.app), args, kwargs) for task in step.tasks
        ]
    return copy


def flat_steps(
    tasks: Iterable[Any],
    app: Any,
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    split: bool,
) -> tuple[list[Any], Any, Any]:
    """The steps in order, without chains among them and without empty groups.

    If there is nothing but empty groups, one of them is kept: its result is one.

    Args:
        tasks: Tasks of a chain.
        app: App of tasks that are dicts.
        args: Arguments for the first step.
        kwargs: Keyword arguments for the first step.
        split: Take the chains in bodies of chords apart, into copies.

    Returns:
        The steps, and the arguments for the first one, which nested chains may have
        changed.
    """
    pending: deque[Any] = deque(tasks)
    steps: list[Any] = []
    nothing: Any = None
    while pending:
        step = as_signature(pending.popleft(), app)
        if isinstance(step, package.group):
            if is_empty_group(step):
                nothing = nothing or step
                continue
            step = maybe_unroll_group(step)
            if not isinstance(step, package.group):
                pending.appendleft(step)
                continue
        elif isinstance(step, package._chain):
            if step.args and not steps:
                args = step.args if step.immutable else (*(args or ()), *step.args)
                if not split:
                    step["args"] = ()  # The first step is going to have them.
            linked = split and ("link" in step.options or "link_error" in step.options)
            pending.extendleft(reversed(step.unchain_tasks() if linked else step.tasks))
            continue
        elif split and isinstance(step, package.chord) and is_chain_led_by_task(step.body):
            pending.extendleft(reversed(unrolled_body(step)))
            continue
        steps.append(step)
    if nothing is not None and not steps:
        steps.append(nothing)
    return steps, args, kwargs


def _with_chords(steps: list[Any], root_id: str | None, app: Any) -> list[Any]:
    """The steps, last one first, with a chord for each group that something follows."""
    options: dict[str, Any] = {"root_id": root_id} if root_id else {}
    backwards: list[Any] = []
    for step in reversed(steps):
        if backwards and ends_in_group(step):
            step = _led_to(step, backwards.pop(), app, options)
        backwards.append(step)
    return backwards


def _led_to(step: Any, following: Any, app: Any, options: dict[str, Any]) -> Any:
    """A chord of the group with which ``step`` ends, and of what follows it.

    As a step of its own, that would follow every member of the group.
    """
    if isinstance(step, (package.group, package.chord)) and isinstance(step.tasks, tuple):
        step.tasks = list(step.tasks)  # In which the frozen members can be put.
    if isinstance(step, package.group):
        # The ids are given to the group itself, whose results are handed out.
        step.id = step.id or package.uuid()
        chord: Any = package.chord(step, body=following, app=app, **options)
        chord.tasks = package.group(step.tasks, app=app, task_id=step.id)
        return chord
    if isinstance(step, package.chord):
        return _variant(step, body=_led_to(step.body, following, app, options))
    *tasks, last = step.tasks
    return _variant(step, tasks=[*tasks, _led_to(last, following, app, options)])


def _variant(sig: Any, **parts: Any) -> Any:
    """The signature with other parts; it shares its options, and thus its ids."""
    other = Signature.__new__(type(sig))
    other.update(sig)
    other["kwargs"] = {**sig["kwargs"], **parts}
    other.__dict__.update(sig.__dict__)
    return other


def freeze_steps(
    backwards: list[Any],
    app: Any,
    *,
    root_id: str | None,
    last: dict[str, Any],
    link_error: Any = None,
    use_link: bool = False,
) -> tuple[list[Any], list[Any]]:
    """Give each step its id, and each result its parent.

    Args:
        backwards: The steps, last one first.
        app: The application.
        root_id: Id of the first task of the work-flow.
        last: Arguments with which the last step is frozen: only that one is a member of
            the chain's group.
        link_error: Errbacks for every step.
        use_link: Link each step to the one before it.
    """
    errbacks = maybe_list(link_error) or ()
    results: list[Any] = []
    follows: Any = None
    for number, step in enumerate(backwards):
        result = step.freeze(root_id=root_id, **({} if number else last))
        results.append(result)
        if number and use_link:
            step.link(backwards[number - 1])
        if follows is not None and follows.parent is None:
            follows.parent = result
        for errback in errbacks:
            step.link_error(errback)
        follows = result
        if isinstance(step, package.chord):
            app.backend.ensure_chords_allowed()
            # A chord begins with its header, whose result is behind that of the body.
            while follows is not None and follows.parent:
                follows = follows.parent
    return backwards, results
