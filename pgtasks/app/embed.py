"""What a job carries of the work-flow that it is a part of, and no more than that.

In Celery every member of a chord's header holds the whole body, with all that the body
leads to. Here the body is a row of its own, so that members need to know its name only,
and no message grows with the length of a chain of chords.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["chord_of", "slim", "stub"]


def stub(body: Any) -> Any:
    """The body of a chord as its members carry it: which task it is, and its id."""
    if not isinstance(body, Mapping):
        return body
    last = body
    while last.get("subtask_type") == "chain" and last["kwargs"].get("tasks"):
        # What can be waited for is the end of it.
        last = last["kwargs"]["tasks"][-1]
    options = last.get("options") or {}
    return {
        "task": last.get("task"),
        "args": [],
        "kwargs": {},
        "options": {
            key: options[key] for key in ("task_id", "group_id") if options.get(key)
        },
        "subtask_type": None,
        "immutable": False,
    }


def slim(given: Any) -> Any:
    """Signatures, with the bodies of their chords reduced to a `stub`.

    Args:
        given: A signature, or a list of them.
    """
    if type(given) is dict or isinstance(given, Mapping):
        return _slim(given)
    # What came out of a row is slim already, and there may be much of it: of a chain of
    # 200 each link passes on all that are left.
    return [each if type(each) is dict else _slim(each) for each in given]


def _slim(signature: Any) -> Any:
    if not isinstance(signature, Mapping):
        return signature
    options, kwargs = signature.get("options") or {}, signature.get("kwargs") or {}
    changed: dict[str, Any] = {}
    lighter: dict[str, Any] = {}
    if options.get("chord"):
        lighter["chord"] = stub(options["chord"])
    for key in ("link", "link_error"):
        if options.get(key):
            lighter[key] = slim(options[key])
    if lighter:
        changed["options"] = {**options, **lighter}
    kind = signature.get("subtask_type")
    if kind in ("chain", "group") and kwargs.get("tasks"):
        changed["kwargs"] = {**kwargs, "tasks": slim(kwargs["tasks"])}
    elif kind == "chord":
        header, body = kwargs.get("header"), kwargs.get("body")
        changed["kwargs"] = {
            **kwargs,
            "header": slim(header) if header else header,
            "body": _slim(body),
        }
    return {**signature, **changed} if changed else signature


def chord_of(signature: Any) -> str | None:
    """The chord in which the end of ``signature`` counts, or of what it becomes."""
    while isinstance(signature, Mapping):
        options, kwargs = signature.get("options") or {}, signature.get("kwargs") or {}
        if options.get("chord"):
            group: str | None = options.get("group_id")
            return group
        kind = signature.get("subtask_type")
        if kind == "chord":
            signature = kwargs.get("body")
        elif kind in ("chain", "group") and kwargs.get("tasks"):
            signature = kwargs["tasks"][-1]
        else:
            return None
    return None
