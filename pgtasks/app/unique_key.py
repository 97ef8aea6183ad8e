"""The key of a unique job: what makes one call the same as another.

Whether a key is free is decided by the statement that inserts the job
(`pgtasks.storage.uniques`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pgtasks import serialization
from pgtasks.exceptions import EncodeError

if TYPE_CHECKING:
    from pgtasks.app.unique import Rule

__all__ = ["key_of"]


def key_of(
    rule: Rule, task: Any, name: str, args: Any, kwargs: Any, queue: str, meta: Any
) -> str:
    """The key of a call: equal for those, and only for those, that count as the same.

    Args:
        rule: What is compared.
        task: The task, if it is known here.
        name: Its name.
        args: Positional arguments.
        kwargs: Keyword arguments.
        queue: Name of the queue.
        meta: Metadata of the call.

    Raises:
        TypeError: The arguments cannot be compared.
    """
    fields, keys = rule.fields, rule.keys
    parts: list[Any] = [rule.tag]
    if "task" in fields:
        parts.append(name)
    if "queue" in fields:
        parts.append(queue)
    if keys is None:
        if "args" in fields:
            parts.append(args)
        if "kwargs" in fields:
            parts.append(kwargs)
        if "meta" in fields:
            parts.append(meta or {})
    else:
        if "args" in fields or "kwargs" in fields:
            named = _named(task, name, args, kwargs, keys)
            parts.append({key: named[key] for key in keys if key in named})
        if "meta" in fields:
            parts.append({key: meta[key] for key in keys if key in (meta or {})})
    digest = hashlib.blake2b(_canonical(parts, name).encode(), digest_size=16)
    return digest.hexdigest()


_encode = json.JSONEncoder(sort_keys=True).encode


def _canonical(parts: list[Any], name: str) -> str:
    try:
        return _encode(parts)
    except (TypeError, ValueError, RecursionError):
        pass  # A type that the standard library does not know, or keys of two types.
    try:
        return _encode(json.loads(serialization.dumps(parts)))
    except (EncodeError, TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"A call of {name} with unique= has arguments of which nobody can say whether "
            f"they are the same, for JSON cannot hold them: {error}. Name the ones that "
            f"count with 'keys', or leave 'args' and 'kwargs' out of 'fields'."
        ) from error


def _named(
    task: Any, name: str, args: Any, kwargs: Any, keys: Iterable[str]
) -> Mapping[str, Any]:
    """The arguments by their names, those that were given by position among them."""
    if not args:
        return kwargs or {}
    names = _names_of(task)
    if names is None:
        missing = [key for key in keys if key not in (kwargs or {})]
        if not missing:
            return kwargs  # type: ignore[no-any-return]
        raise TypeError(
            f"unique: keys={list(keys)!r}: {missing[0]!r} may be one of the positional "
            f"arguments of {name}, which is not known here, so that nobody can say which. "
            f"Give it as a keyword argument."
        )
    return {**dict(zip(names, args, strict=False)), **(kwargs or {})}


def _names_of(task: Any) -> tuple[str, ...] | None:
    """Names of the parameters of a task that take arguments by position."""
    if task is None:
        return None
    names: tuple[str, ...] | None = task.__dict__.get("_positional_names")
    if names is None:
        try:
            parameters = inspect.signature(task.run).parameters.values()
        except (TypeError, ValueError):
            return None
        by_position = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        names = task.__dict__["_positional_names"] = tuple(
            each.name for each in parameters if each.kind in by_position
        )
    return names
