"""What every kind of signature is made of: items as attributes, and copies of options."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgtasks._state import current_app
from pgtasks.utils.functional import maybe_list

if TYPE_CHECKING:
    from pgtasks.canvas.signature import Signature

__all__ = [
    "DELAYS",
    "app_of",
    "copied_options",
    "item",
    "leads_back",
    "said",
    "sent_together",
]

#: Options that say when a task may run, under Celery's names and under Oban's.
DELAYS = ("countdown", "eta", "schedule_in", "scheduled_at")

#: Values that a copy may share with its original.
_PLAIN: frozenset[type] = frozenset(
    {str, int, float, bool, type(None), bytes, datetime, date, timedelta, UUID}
)


def item(*path: str, doc: str) -> Any:
    """A property that stands for ``self[path[0]][path[1]]…``; absent reads as None."""
    *parents, key = path
    parent = parents[0] if parents else None

    if parent is None:

        def read(signature: Signature[Any]) -> Any:
            return signature.get(key)

        def write(signature: Signature[Any], value: Any) -> None:
            signature[key] = value

    else:

        def read(signature: Signature[Any]) -> Any:
            return signature[parent].get(key)

        def write(signature: Signature[Any], value: Any) -> None:
            signature[parent][key] = value

    return property(read, write, doc=doc)


def copied_options(
    options: Mapping[str, Any], memo: dict[int, Any] | None = None
) -> dict[str, Any]:
    """A copy of a signature's options that shares nothing which can be changed.

    Most options are words and numbers, and a work-flow is copied several times before it
    is sent: what needs no deep copy gets none.

    Args:
        options: The options.
        memo: What has been copied already, as `copy.deepcopy` keeps it.
    """
    for value in options.values():
        if type(value) not in _PLAIN:
            return _copied(options, {} if memo is None else memo)  # type: ignore[no-any-return]
    return dict(options)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is list:
        items: list[Any] = []
        memo[id(value)] = items
        items.extend([_copied(each, memo) for each in value])
        return items
    if kind is dict:
        mapping: dict[Any, Any] = {}
        memo[id(value)] = mapping
        for key, each in value.items():
            mapping[key] = _copied(each, memo)
        return mapping
    # A signature knows how it is copied, and so may objects of the caller's.
    return deepcopy(value, memo)


def leads_back(signature: Mapping[str, Any]) -> bool:
    """Whether following its links one comes to ``signature`` itself again."""
    pending, seen = _links(signature), set()
    while pending:
        link = pending.pop()
        if link is signature:
            return True
        if id(link) not in seen and isinstance(link, Mapping):
            seen.add(id(link))
            pending.extend(_links(link))
    return False


def _links(signature: Mapping[str, Any]) -> list[Any]:
    options = signature.get("options") or {}
    return [
        link
        for key in ("link", "link_error")
        for link in maybe_list(options.get(key)) or ()
    ]


def app_of(task: Any) -> Any:
    """The app of a task; None if it would only be the current one."""
    app = getattr(task, "_app", None)
    if app is None:
        app = getattr(task, "app", None)
    return None if app is current_app else app


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None, which counts as not given.

    But ``connection=None`` has a meaning: not the transaction that the job would join.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if "connection" in options and "connection" not in given:
        from pgtasks.app.transactions import OWN

        given["connection"] = OWN
    return given


def sent_together(app: Any) -> AbstractContextManager[Any]:
    """What is sent meanwhile is one batch: all of the work-flow, or nothing of it."""
    # Here, for tasks make signatures and stand above them.
    from pgtasks.app import publish

    return publish.batch(app)
