"""Events as they travel: many in one text.

What a program sends itself goes as it is. A worker tells of thousands of tasks a second,
and writes what all of them have in common but once: `pack`. The text names its own fields,
so that readers and writers of different versions understand each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pgtasks import serialization

__all__ = ["JSON_TEXT", "LONGEST", "WHOLE", "dump", "load", "pack", "show"]

JSON_TEXT = "~"
"""Ends the name of a field that holds JSON, to be shown as Python would write it; or, in a
list of its own, a text that is shown as it is. It is the reader who takes the time."""

WHOLE = "task-whole"
"""Stands for three events of a job that arrived, ran and succeeded between two bundles, as
most short ones do: its fields are those of the arrival, then ``ended``, ``result`` and
``runtime``. It takes three numbers of the clock."""

LONGEST = 1024
"""Characters of arguments and results that events show."""

Event = dict[str, Any]


def dump(events: Sequence[Mapping[str, Any]]) -> str:
    """Write events, whatever they have in them.

    Raises:
        EncodeError: One has something that JSON cannot say.
    """
    return serialization.dumps({"events": list(events)})


def pack(
    common: Mapping[str, Any],
    fields: Mapping[str, Sequence[str]],
    rows: Sequence[Sequence[Any]],
) -> str:
    """Write many events of a few known types.

    Args:
        common: Fields that all of them have.
        fields: By type the names of the others.
        rows: For each event its type, its clock, its moment, and the values of its fields.
    """
    return json.dumps([common, fields, rows], separators=(",", ":"))


def load(text: str) -> list[Event]:
    """Read what `dump` or `pack` has written.

    Raises:
        DecodeError: It is something else.
    """
    if not text.startswith("["):
        events: list[Event] = serialization.loads(text)["events"]
        return events
    common, fields, rows = json.loads(text)
    return list(_unpack(common, fields, rows))


def _unpack(
    common: Mapping[str, Any],
    fields: Mapping[str, Sequence[str]],
    rows: Iterable[Sequence[Any]],
) -> Iterator[Event]:
    for kind, clock, timestamp, *values in rows:
        event = {**common, "type": kind, "clock": clock, "timestamp": timestamp}
        for name, value in zip(fields[kind], values, strict=True):
            if name.endswith(JSON_TEXT):
                name = name[:-1]
                value = value[0] if isinstance(value, list) else show(value, name == "args")
            event[name] = value
        if event.get("root_id", "") is None:
            # That it is the first of its work-flow need not be said.
            event["root_id"] = event["uuid"]
        if kind == WHOLE:
            yield from _parts(common, event)
        else:
            yield event


def _parts(common: Mapping[str, Any], whole: Event) -> Iterator[Event]:
    ended, result, runtime = (whole.pop(name) for name in ("ended", "result", "runtime"))
    arrived, clock, uuid = whole["timestamp"], whole["clock"], whole["uuid"]

    def part(type: str, clock: int, timestamp: float, **fields: Any) -> Event:
        known = {**common, "type": type, "clock": clock, "timestamp": timestamp}
        return {**known, "uuid": uuid, **fields}

    yield {**whole, "type": "task-received"}
    yield part("task-started", clock + 1, max(arrived, ended - runtime))
    yield part("task-succeeded", clock + 2, ended, result=result, runtime=runtime)


def show(text: str | None, is_args: bool = False) -> str | None:
    """JSON as Python would write the value.

    Args:
        text: The JSON; what is none is shown as it is.
        is_args: It is the list of a task's positional arguments, which Python calls a tuple.
    """
    if text is None:
        return None
    try:
        value = serialization.loads(text)
    except Exception:
        return text
    return repr(tuple(value) if is_args and isinstance(value, list) else value)
