"""The handler that writes events into the log, as JSON, one to a line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import date
from typing import Any
from uuid import UUID

from pgtasks.telemetry.events import prefixed
from pgtasks.telemetry.registry import attach_many, detach

__all__ = ["attach_default_logger", "detach_default_logger"]

ID = "pgtasks-default-logger"

logger = logging.getLogger("pgtasks.telemetry")

#: What is worth a line by default: statements are told of a thousand times a second.
_GROUPS = ("job", "plugin", "notifier", "queue", "supervisor")

#: Not for people, or too large for a line.
_UNWRITTEN = frozenset(("app", "job", "database", "result", "error", "args", "kwargs"))


def attach_default_logger(
    level: int | str = "info",
    *,
    events: Iterable[str] | str | None = None,
    encode: bool = True,
    arguments: bool = True,
) -> None:
    """Write events into the log ``pgtasks.telemetry``, one line of JSON for each.

    Args:
        level: Level of the lines, as of Python's ``logging``.
        events: Which ones: ``"all"``, or names without ``pgtasks.``, whole (``job.stop``)
            or in part (``job``, ``engine``). Without, all but ``engine``.
        encode: False leaves the message a dict, for formatters that write JSON themselves.
        arguments: False leaves out the arguments of jobs. Those of calls with ``argsrepr``
            and ``kwargsrepr`` are shown as these say.

    Raises:
        ValueError: It is attached already, or there are no such events, or no such level.
    """
    if events is None:
        events = _GROUPS
    elif isinstance(events, str):
        events = [""] if events == "all" else [events]
    names = [name for each in events for name in _named(each)]
    config = {"level": _level(level), "encode": encode, "arguments": arguments}
    attach_many(ID, names, _log, config)


def detach_default_logger() -> bool:
    """Write no events any more; the answer is whether they were."""
    return detach(ID)


def _named(group: str) -> list[str]:
    found = prefixed(f"pgtasks.{group}" if group else "")
    if not found:
        raise ValueError(
            f"There are no events {group!r}: give 'all', or some of {', '.join(_GROUPS)}, "
            f"engine, or whole names such as 'job.stop'."
        )
    return found


def _level(level: int | str) -> int:
    if isinstance(level, int):
        return level
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        raise ValueError(f"level={level!r} is none of Python's: try 'info'.")
    return number


def _log(
    event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any
) -> None:
    if not logger.isEnabledFor(config["level"]):
        return
    line: dict[str, Any] = {"source": "pgtasks", "event": event.removeprefix("pgtasks.")}
    line.update({key: metadata[key] for key in metadata if key not in _UNWRITTEN})
    if config["arguments"]:
        for name in ("args", "kwargs"):
            if name in metadata:
                line[name] = line.pop(f"{name}repr", metadata[name])
    line.pop("argsrepr", None)
    line.pop("kwargsrepr", None)
    line.update(measurements)
    if config["encode"]:
        logger.log(config["level"], "%s", _json(line))
    else:
        logger.log(config["level"], line)


def _json(line: dict[str, Any]) -> str:
    try:
        return json.dumps(line, default=_text, skipkeys=True)
    except Exception:  # It contains itself, or is of a type that lies about itself.
        return json.dumps({key: _text(value) for key, value in line.items()})


def _text(value: Any) -> str:
    try:
        return str(value) if isinstance(value, (date, UUID)) else repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
