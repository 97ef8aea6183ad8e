"""Bodies of chords: what they take over from the chord, and how they stay small.

Every member of a header knows the body. A body that held the rest of a long chain would
therefore be written once for each member, at every chord on the way; so the tail of a
body becomes steps of the chain around it, and members of headers that are not sent yet
forget their body, which they are given again when they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgtasks import canvas as package
from pgtasks.canvas.signature import Signature, maybe_signature
from pgtasks.utils.functional import maybe_list

__all__ = [
    "BODY_ONLY",
    "_clear_chord_option",
    "_strip_chord_header_links",
    "body_options",
    "innermost",
    "is_chain_led_by_task",
    "is_plain_chord",
    "put_behind",
    "send_body",
    "size_of",
    "unrolled_body",
    "with_callbacks",
]

#: What is said of errbacks while they are not linked to headers.
BODY_ONLY = (
    "task_allow_error_cb_on_chord_header=False is pending deprecation in Celery: an errback "
    "of a chord is linked to its body alone, which also fails when a member of the header "
    "does. Set it to True to have the errback called for each member as well."
)

#: Options of a chain that are not its first task's.
_OF_THE_CHAIN = frozenset(
    {
        "chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id",
        "task_id", "use_link",
    }
)  # fmt: skip


# ── chords in chords ────────────────────────────────────────────────────────────────────


def innermost(chord: Any) -> Any:
    """The chord whose body is none: ``chord``, or the one that its body is, and so on."""
    while isinstance(chord.body, package.chord):
        chord = chord.body
    return chord


def is_plain_chord(body: Any) -> bool:
    """Whether ``body`` is a chord that is a dict still, and of the usual class."""
    return (
        isinstance(body, Mapping)
        and not isinstance(body, Signature)
        and body.get("subtask_type") == "chord"
        and Signature.TYPES["chord"] is package.chord
    )


# ── the tail ────────────────────────────────────────────────────────────────────────────


def is_chain_led_by_task(body: Any) -> bool:
    """Whether a body is a chain that does not begin with a group.

    After a group, what follows is called by each of its members.
    """
    return (
        isinstance(body, package._chain)
        and bool(body.tasks)
        and not isinstance(body.tasks[0], package.group)
    )


def unrolled_body(chord: Any) -> list[Any]:
    """A copy of the chord with the first task of its body, and the other tasks of it."""
    body = chord.body
    first, *others = body.unchain_tasks()
    copy = chord.clone()
    options = {
        key: value for key, value in body.options.items() if key not in _OF_THE_CHAIN
    }
    args = body.args if not first.immutable else ()
    copy.body = first.clone(args, **options) if args or options else first
    return [copy, *others]


def send_body(body: Any, results: Any, **options: Any) -> Any:
    """Send the body of a chord, with ``results`` in front of its arguments.

    For result backends, which know when; `Signature.apply_async` is for callers.

    Args:
        body: The body.
        results: The list of the members' results, or what stands for it.
        **options: Further options.
    """
    if type(body) is not Signature:
        return body.apply_async((results,), **options)
    args, kwargs, options = body._merge((results,), None, options)
    return body._apply_async(args, kwargs, **options)


# ── members that forget their body ──────────────────────────────────────────────────────


def _clear_chord_option(sig: Any) -> None:
    """Have those tasks forget the chord that would count in it."""
    sig["options"].pop("chord", None)
    if isinstance(sig, package.group):
        for task in sig.tasks:
            _clear_chord_option(task)
    elif isinstance(sig, package._chain):
        if sig.tasks:
            _clear_chord_option(sig.tasks[-1])
    elif isinstance(sig, package.chord) and sig.body is not None:
        _clear_chord_option(sig.body)


def _strip_chord_header_links(sig: Any) -> None:
    """Have the headers of all chords in ``sig`` forget their bodies.

    For copies that are about to be sent: what a chord's members are told when the chord
    itself is sent need not travel before.
    """
    pending = [sig]
    while pending:
        part = pending.pop()
        if isinstance(part, package.chord):
            header = part.tasks
            if isinstance(header, package.group):
                header.options.pop("chord", None)
                header = header.tasks
            for task in header:
                _clear_chord_option(task)
            pending.extend(header)
            if part.body is not None:
                pending.append(part.body)
        elif isinstance(part, (package.group, package._chain)):
            pending.extend(part.tasks)


# ── callbacks ───────────────────────────────────────────────────────────────────────────


def with_callbacks(body: Any, options: dict[str, Any], *, copy: bool = True) -> Any:
    """The body with the callbacks and errbacks of its chord, which are taken out of ``options``.

    A callback is linked as `chord.link` does. An errback goes to every task of a group; to
    a group itself if that has errbacks of its own, which would replace those of its tasks.
    Anything else gets it itself, where it is found when the header fails. Neither goes to
    the header.

    Args:
        body: The body.
        options: Options of the chord.
        copy: Link them to a copy; otherwise to the body itself, which must be one.

    Returns:
        The body, or a copy if there is something to link.
    """
    callbacks = maybe_list(options.pop("link", None)) or ()
    errbacks = maybe_list(options.pop("link_error", None)) or ()
    if not callbacks and not errbacks:
        return body
    if copy:
        body = _deep_clone(body)
    for callback in callbacks:
        callback = _deep_clone(maybe_signature(callback, app=body._app))
        if isinstance(body, package.group) and not body.tasks:
            body.append_to_list_option("link", callback)
        else:
            body.link(callback)
    for errback in errbacks:
        if isinstance(body, package.group):
            _link_error_to_tasks(body, maybe_signature(errback, app=body._app))
        else:
            body.append_to_list_option("link_error", errback)
    return body


def _deep_clone(sig: Any) -> Any:
    """A copy of ``sig`` and of those in it to which a link would go.

    A group shares its members with its clones.
    """
    copy = maybe_signature(sig, clone=True)
    # Bodies are copied with their chords.
    last = innermost(copy).body if isinstance(copy, package.chord) else copy
    if isinstance(last, package.group):
        last.tasks = [_deep_clone(task) for task in last.tasks]
    return copy


def _link_error_to_tasks(sig: Any, errback: Any, runs_as_group: bool = True) -> None:
    """Link ``errback`` to every task of a body that is a group, or is in one.

    Args:
        sig: The body, or a part of it.
        errback: The errback; each task gets a copy.
        runs_as_group: A group in a group does not: its members become the outer one's,
            and what its options say is lost.
    """
    if isinstance(sig, package.group):
        if runs_as_group and sig.options.get("link_error") is not None:
            sig.append_to_list_option("link_error", errback.clone())
            return
        for task in sig.tasks:
            _link_error_to_tasks(task, errback, runs_as_group=False)
    elif isinstance(sig, package.chord):
        _link_error_to_tasks(innermost(sig).body, errback)
    else:
        sig.link_error(errback.clone())


def put_behind(result: Any, *headers: Any) -> None:
    """Make the header's result the parent of the body's.

    The body may be a chain, and the header comes before the first of its tasks.

    Args:
        result: The body's result.
        *headers: The header's, then the result of what comes before that, and so on.
    """
    seen = set()
    for header in headers:
        while result.parent is not None:
            seen.add(result.id)
            result = result.parent
            if result.id in seen:
                raise RuntimeError(
                    f"Recursive result parents: {result.id} comes before itself. A "
                    f"signature is used twice in this work-flow; use a clone() of it."
                )
        result.parent = header


def body_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a chord that are its body's too.

    Not its parent: that is the member of the header which ends last.
    """
    return {key: value for key, value in options.items() if key != "parent_id"}


def size_of(sig: Any) -> int:
    """How many ends of tasks a member of a header stands for.

    A group counts its members, a chain what is last in it, a chord its body.
    """
    pending: list[Any] = [sig]
    total = 0
    while pending:
        part = pending.pop()
        if type(part) is Signature:
            total += 1
            continue
        if not isinstance(part, Signature) and isinstance(part, dict):
            part = Signature.from_dict(part)
        if isinstance(part, package.group):
            pending.extend(getattr(part.tasks, "tasks", part.tasks))
        elif isinstance(part, package._chain):
            # What is empty counts nothing; then the one before it is the last.
            for task in reversed(part.tasks):
                size = size_of(task)
                if size:
                    total += size
                    break
        elif isinstance(part, package.chord):
            pending.append(part.body)
        elif isinstance(part, Signature):
            total += 1
        else:
            total += len(part)
    return total
