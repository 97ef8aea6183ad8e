"""What a failure takes with it: the tasks that now never run, and who is told.

Pure functions over signatures, which may have been JSON meanwhile. Stores use them to let
nobody wait for a task whose predecessor has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pgtasks.utils.functional import maybe_list

__all__ = ["Unborn", "errbacks_of", "rest_of", "rest_of_chain"]

Role = Literal["step", "member", "callback"]

#: Kinds of signatures that stand for several tasks and are none themselves. Their own id
#: is that of a group, or of the last task of a chain.
_COMPOSITE = frozenset({"chain", "group", "chord"})


class Unborn(NamedTuple):
    """A task that was going to run and never will.

    Attributes:
        task_id: The id that its caller may be waiting for.
        signature: The task, as a dict or as a signature: name, arguments, options.
        role: What it was going to be: a ``step`` (the next link of a chain, or the body
            of a chord that is one), a ``member`` of a group or of the header of a chord
            that never begins, or a ``callback``.
        chord: What the option ``chord`` says, if the end of this task was to count in a
            chord that has begun; the chord waits for it and must be told. None for the
            header of a chord that never begins.
    """

    task_id: str
    signature: Mapping[str, Any]
    role: Role
    chord: Any = None

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.signature.get("task") or ""

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that it was going to be sent with."""
        return self.signature.get("options") or {}

    @property
    def group_id(self) -> str | None:
        """The group that it is a member of."""
        return self.options.get("group_id")

    @property
    def group_index(self) -> int | None:
        """Its place in that group."""
        return self.options.get("group_index")


def rest_of(request: Any) -> list[Unborn]:
    """The tasks that never run because the task of ``request`` has failed.

    These are what is left of its chain and the callbacks that would have been sent with
    its result, with all that these would have led to: members of groups, headers and
    bodies of chords, nested chains, callbacks of callbacks. Errbacks are not among them.

    Only tasks that were given their ids in advance are named: nobody can wait for another.

    Args:
        request: The request of the task that failed: anything with ``chain`` (the next
            task last, as it travels) and ``callbacks``.

    Returns:
        Each task once, in the order in which they would have run. Nothing is stored.
    """
    found = rest_of_chain(getattr(request, "chain", None))
    seen = {each.task_id for each in found}
    callbacks = _listed(getattr(request, "callbacks", None))
    found += _unique(_walk(callbacks, "callback", counts=True), seen)
    return found


def rest_of_chain(chain: Any) -> list[Unborn]:
    """`rest_of` for a chain alone: a list of signatures, the next one last."""
    return _unique(_walk(_listed(chain)[::-1], "step", counts=True), set())


def errbacks_of(signature: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
    """The id that stands for ``signature``, and the errbacks to call when it never runs.

    For the body of a chord, or for one of its members where the body is a group. The result
    of a chord is that of its own body, whose errbacks are called after those of the chord.
    Of a group all members' errbacks come after its own. A chain has what was linked to it
    as a whole.

    Returns:
        The id (None without one) and the errbacks, each of them once.
    """
    id, errbacks = _errbacks_of(signature)
    kept: list[Any] = []
    for errback in errbacks:
        if errback not in kept:
            kept.append(errback)
    return id, kept


def _errbacks_of(signature: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
    kind, options, kwargs = _parts(signature)
    errbacks = list(maybe_list(options.get("link_error")) or ())
    body = kwargs.get("body")
    if kind == "chord" and isinstance(body, Mapping):
        id, more = _errbacks_of(body)
        return id, errbacks + more
    if kind == "group":
        for member in _listed(kwargs.get("tasks")):
            errbacks += _errbacks_of(member)[1]
    return options.get("task_id"), errbacks


def _walk(
    signatures: list[Any], role: Role, counts: bool, last_id: str | None = None
) -> Iterator[Unborn]:
    """All tasks behind ``signatures``.

    Args:
        signatures: Signatures, in the order in which they run.
        role: Their role.
        counts: Whether a chord that they belong to has begun.
        last_id: Id of the last of them, if it has none of its own.
    """
    # No recursion: bodies within bodies may be as deep as a long chain of groups.
    stack: list[tuple[Any, Role, bool, str | None]] = []

    def push(more: list[Any], role: Role, counts: bool, last_id: str | None = None) -> None:
        """Have ``more`` come next, before what is on the stack."""
        for place, each in enumerate(reversed(more)):
            stack.append((each, role, counts, None if place else last_id))

    push(signatures, role, counts, last_id)
    while stack:
        signature, role, counts, last_id = stack.pop()
        if not isinstance(signature, Mapping):
            continue
        kind, options, kwargs = _parts(signature)
        id = options.get("task_id") or last_id
        # A task that never succeeds leads to nothing, whatever it stands for.
        push(_listed(options.get("chain"))[::-1], role, counts)
        push(_listed(options.get("link")), "callback", counts)
        if kind == "chain":
            push(_listed(kwargs.get("tasks")), role, counts, id)
        elif kind == "group":
            push(_listed(kwargs.get("tasks")), "member", counts)
        elif kind == "chord":
            push([kwargs.get("body")], role, counts)
            push(_members(kwargs.get("header")), "member", False)
        elif id is not None:
            yield Unborn(str(id), signature, role, options.get("chord") if counts else None)


def _parts(
    signature: Mapping[str, Any],
) -> tuple[str | None, Mapping[str, Any], Mapping[str, Any]]:
    kind = signature.get("subtask_type")
    options, kwargs = signature.get("options"), signature.get("kwargs")
    return (
        kind if kind in _COMPOSITE else None,
        options if isinstance(options, Mapping) else {},
        kwargs if isinstance(kwargs, Mapping) else {},
    )


def _members(header: Any) -> list[Any]:
    """The tasks of a header, which is a list of them or a group."""
    return [header] if isinstance(header, Mapping) else _listed(header)


def _listed(given: Any) -> list[Any]:
    """What was given, if that is a list: a generator is not ours to run."""
    if isinstance(given, Mapping):
        return [given]
    return list(given) if isinstance(given, (list, tuple)) else []


def _unique(found: Iterator[Unborn], seen: set[str]) -> list[Unborn]:
    return [
        each
        for each in found
        if not (each.task_id in seen or seen.add(each.task_id))  # type: ignore[func-returns-value]
    ]
