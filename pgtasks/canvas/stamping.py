"""Stamps: values of the caller's on every task of a work-flow, to find them again by.

``sig.stamp(customer="7")`` writes options: the stamp itself, and its name into
``stamped_headers``, which says which of the options are stamps. A `StampingVisitor` walks
the work-flow and chooses the stamps of each task.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Mapping, MutableSequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from pgtasks import canvas as package
from pgtasks.canvas.signature import Signature, maybe_signature
from pgtasks.utils.functional import _regen, maybe_list

if TYPE_CHECKING:
    from pgtasks.canvas.chains import _chain
    from pgtasks.canvas.chords import _chord
    from pgtasks.canvas.groups import group

__all__ = [
    "StampingVisitor",
    "_merge_dictionaries",
    "merged_stamps",
    "stamp_chain",
    "stamp_chord",
    "stamp_group",
    "stamp_links",
]


class StampingVisitor(metaclass=ABCMeta):
    """Chooses the stamps of each part of a work-flow; give it to ``sig.stamp(visitor)``.

    Each method is called with the part and with the stamps so far, and returns more of
    them. Those of a group, chain or chord go to all its members. A key
    ``stamped_headers`` names the stamps among what is returned; without it all are.
    """

    @abstractmethod
    def on_signature(self, sig: Signature[Any], **headers: Any) -> dict[str, Any]:
        """Stamps of one task; also called for callbacks, errbacks and members."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        """Stamps of all members of a group."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027
        """Called after the members of a group."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """Stamps of all tasks of a chain."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027
        """Called after the tasks of a chain."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Stamps of a chord: of its header, by default those of a group, and its body."""
        if not isinstance(sig.tasks, package.group):
            sig.tasks = package.group(sig.tasks, app=sig._app)
        return self.on_group_start(sig.tasks, **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """Called after the header of a chord."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Stamps of the body of the chord ``sig``."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        """Stamps of what is called when a task has succeeded."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
        """Stamps of what is called when a task has failed."""
        return {}


def _merge_dictionaries(
    d1: dict[str, Any], d2: Mapping[str, Any] | None, aggregate_duplicates: bool = True
) -> None:
    """Merge ``d2`` into ``d1``, dicts within them too.

    Two lists become one. Of other duplicates both are kept, in a list, if
    ``aggregate_duplicates``; otherwise the value of ``d1``.
    """
    for key, new in (d2 or {}).items():
        if key not in d1:
            d1[key] = new
            continue
        old = d1[key]
        if isinstance(old, dict) and isinstance(new, Mapping):
            # Values may be the caller's own: they are replaced, never changed.
            d1[key] = merged = dict(old)
            _merge_dictionaries(merged, new, aggregate_duplicates)
        elif isinstance(old, list) and isinstance(new, list):
            d1[key] = [*old, *new]
        elif not aggregate_duplicates:
            continue
        elif isinstance(old, (int, float, str)):
            d1[key] = [old, *new] if isinstance(new, list) else [old, new]
        else:
            d1[key] = [*(() if old is None else old), new]


def merged_stamps(
    headers: Mapping[str, Any],
    more: Mapping[str, Any] | None,
    own: Mapping[str, Any] | None,
    append_stamps: bool,
) -> dict[str, Any]:
    """Stamps from up to three sources, with ``stamped_headers`` naming all of them.

    Args:
        headers: Those that were given.
        more: Those of a visitor.
        own: Options of the signature, among which there may be stamps.
        append_stamps: Keep both of two stamps by one name, not the first only.
    """
    stamps = _with_names(headers)
    if more is not None:
        _merge_dictionaries(stamps, _with_names(more), append_stamps)
    names = dict.fromkeys(stamps["stamped_headers"])
    if own is not None:
        names.update(dict.fromkeys(own.get("stamped_headers") or ()))
        _merge_dictionaries(
            stamps, {key: own[key] for key in names if key in own}, append_stamps
        )
    stamps["stamped_headers"] = list(names)
    return stamps


def _with_names(stamps: Mapping[str, Any]) -> dict[str, Any]:
    names = stamps["stamped_headers"] if "stamped_headers" in stamps else list(stamps)
    return {**stamps, "stamped_headers": list(maybe_list(names) or ())}


def stamp_links(
    sig: Signature[Any],
    visitor: StampingVisitor | None,
    append_stamps: bool,
    headers: Mapping[str, Any],
) -> None:
    """Stamp the callbacks and errbacks of ``sig``, and theirs."""
    for key in ("link", "link_error"):
        links = maybe_list(sig.options.get(key))
        if not links:
            continue
        # What came as a dict is stamped as a signature, which takes its place.
        sig.options[key] = links = [maybe_signature(link, app=sig.app) for link in links]
        for link in links:
            stamps = deepcopy(dict(headers))
            found = None
            if visitor is not None:
                visit = visitor.on_callback if key == "link" else visitor.on_errback
                found = visit(link, **stamps)
            link.stamp(
                visitor, append_stamps, **merged_stamps(stamps, found, None, append_stamps)
            )


def stamp_chain(
    chain: _chain[Any],
    visitor: StampingVisitor | None,
    append_stamps: bool,
    headers: dict[str, Any],
) -> None:
    """Stamp the tasks of a chain."""
    found = visitor.on_chain_start(chain, **headers) if visitor is not None else None
    headers = chain._stamp_headers(found, append_stamps, **headers)
    chain.stamp_links(visitor, append_stamps, **headers)
    chain.tasks = _stamped(chain.tasks, chain, visitor, append_stamps, headers)
    if visitor is not None:
        visitor.on_chain_end(chain, **headers)


def stamp_group(
    group: group,
    visitor: StampingVisitor | None,
    append_stamps: bool,
    headers: dict[str, Any],
) -> None:
    """Stamp the members of a group."""
    found = visitor.on_group_start(group, **headers) if visitor is not None else None
    headers = group._stamp_headers(found, append_stamps, **headers)
    group.stamp_links(visitor, append_stamps, **headers)
    group.tasks = _stamped(group.tasks, group, visitor, append_stamps, headers)
    if visitor is not None:
        visitor.on_group_end(group, **headers)


def stamp_chord(
    chord: _chord[Any],
    visitor: StampingVisitor | None,
    append_stamps: bool,
    headers: dict[str, Any],
) -> None:
    """Stamp the members of a chord's header, and its body."""
    found = None
    if visitor is not None:
        found = visitor.on_chord_header_start(chord, **headers)
    headers = chord._stamp_headers(found, append_stamps, **headers)
    chord.stamp_links(visitor, append_stamps, **headers)
    holder = chord.tasks if isinstance(chord.tasks, package.group) else chord
    holder.tasks = _stamped(holder.tasks, chord, visitor, append_stamps, headers)
    if visitor is not None:
        visitor.on_chord_header_end(chord, **headers)
    if chord.body is not None:
        found = visitor.on_chord_body(chord, **headers) if visitor is not None else None
        headers = chord._stamp_headers(found, append_stamps, **headers)
        chord.body.stamp(visitor, append_stamps, **headers)


def _stamped(
    tasks: Iterable[Any],
    owner: Signature[Any],
    visitor: StampingVisitor | None,
    append_stamps: bool,
    headers: dict[str, Any],
) -> Any:
    """The tasks with stamps: the same sequence where it can be changed."""

    def stamped(task: Any) -> Any:
        task = maybe_signature(task, app=owner._app)
        task.stamp(visitor, append_stamps, **headers)
        return task

    if isinstance(tasks, _regen):
        # Those that have not been made yet get their stamps when they are.
        tasks.map(stamped)
        return tasks
    done = [stamped(task) for task in tasks]
    if isinstance(tasks, MutableSequence):
        tasks[:] = done
        return tasks
    return done
