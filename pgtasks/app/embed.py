"""What a job carries of the work-flow that it is a part of, and no more than that.

In Celery every member of a chord's header holds the whole body, with all that the body
leads to. Here the body is a row of its own, so that members need to know its name only,
and no message grows with the length of a chain of chords.

What is left of a chain goes from link to link as the text that it is in the row: of a
chain of 200 each would otherwise read, and write again, all the links behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pgtasks import serialization

__all__ = ["Links", "chord_of", "read", "seal", "slim", "stub", "write"]

#: Between two links. JSON has no bare line break within a value, so that these stand
#: between links only, and texts can be taken apart without being read.
_BREAK = ",\n"
_CHAIN = '"chain": [\n'
_END = "\n]}"


class Links(Sequence[Any]):
    """What is left of a chain, the next link last, as text that is read if need be.

    Args:
        text: Signatures as JSON, each on a line of its own.
    """

    __slots__ = ("_read", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._read: list[Any] | None = None

    @classmethod
    def of(cls, chain: Any) -> Links:
        """The text of a chain that is given as signatures."""
        if isinstance(chain, Links):
            return chain
        return cls(_BREAK.join(serialization.dumps(each) for each in slim(chain)))

    def next(self) -> tuple[Any, Links | None]:
        """The next link, and what is left behind it."""
        left, _, last = self.text.rpartition(_BREAK)
        return serialization.loads(last), Links(left) if left else None

    def read(self) -> list[Any]:
        """All links."""
        if self._read is None:
            self._read = serialization.loads(f"[{self.text}]")
        return self._read

    def __bool__(self) -> bool:
        return bool(self.text)

    def __len__(self) -> int:
        return self.text.count(_BREAK) + 1

    def __getitem__(self, place: Any) -> Any:
        if place == 0 and self._read is None:
            return serialization.loads(self.text.partition(_BREAK)[0])
        return self.read()[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.read())

    def __repr__(self) -> str:
        return repr(self.read())


def write(found: dict[str, Any], chain: Any) -> str:
    """The column ``embed``: what is ``found``, and the chain."""
    if not chain:
        return serialization.dumps(found)
    start = f"{serialization.dumps(found)[:-1]}, " if found else "{"
    return f"{start}{_CHAIN}{Links.of(chain).text}{_END}"


def read(text: str) -> dict[str, Any]:
    """What `write` has written, or anybody else; a chain comes back as `Links`.

    Raises:
        DecodeError: It is no JSON.
    """
    place = text.find(_CHAIN)
    if place < 0 or not text.endswith(_END):
        loaded: dict[str, Any] = serialization.loads(text)
        return loaded
    found: dict[str, Any] = serialization.loads(f"{text[:place].rstrip(', ')}}}")
    found["chain"] = Links(text[place + len(_CHAIN) : -len(_END)])
    return found


def seal(task: str, task_id: str, text: str | None) -> dict[str, Any]:
    """What the signature of a job's arguments covers besides them.

    Args:
        task: Name of the task.
        task_id: Its id.
        text: The column ``embed``.
    """
    digest = hashlib.sha256((text or "{}").encode(errors="surrogatepass")).hexdigest()
    return {"task": task, "id": task_id, "work-flow": digest}


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
    if isinstance(given, Mapping):
        return _slim(given)
    # What came out of a row is slim already, and there may be much of it: of a chain of
    # 200 each link passes on all that are left.
    return [each if type(each) is dict else _slim(each) for each in given]


def _slim(signature: Any) -> Any:
    if not isinstance(signature, Mapping):
        return signature
    signature = _unnested(signature)
    options, kwargs = signature.get("options") or {}, signature.get("kwargs") or {}
    changed: dict[str, Any] = {}
    lighter: dict[str, Any] = {}
    if options.get("chord"):
        lighter["chord"] = stub(options["chord"])
    for key in ("link", "link_error"):
        if options.get(key):
            lighter[key] = slim(options[key])
    if lighter or "reply_to" in options:
        # Results come back by the row: nobody is to be replied to.
        changed["options"] = {**options, **lighter}
        changed["options"].pop("reply_to", None)
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


def _unnested(signature: Mapping[str, Any]) -> Mapping[str, Any]:
    """A chord in whose body are chords, as the chain of groups that it is sent as again.

    JSON may not be nested as deeply as such a chain is long. What has been frozen keeps its
    ids; a chord of which a chain of groups would not say all stays as it is.
    """
    steps: list[Any] = []
    last: Any = signature
    while _is_a_group_and_its_successor(last):
        steps.append(last["kwargs"]["header"])
        last = last["kwargs"]["body"]
    is_task = isinstance(last, Mapping) and not last.get("subtask_type")
    if len(steps) < 2 or not (is_task or _is_group_of_many(last)):
        return signature
    return {
        "task": "celery.chain",
        "args": [],
        "kwargs": {"tasks": [*steps, last]},
        "options": {},
        "subtask_type": "chain",
        "immutable": False,
    }


def _is_a_group_and_its_successor(signature: Any) -> bool:
    """Whether a chord is no more than a frozen group and what follows it."""
    if not isinstance(signature, Mapping) or signature.get("subtask_type") != "chord":
        return False
    kwargs = signature["kwargs"]
    header = kwargs.get("header")
    return (
        not signature.get("args")
        and not signature.get("immutable")
        and not kwargs.get("kwargs")
        and signature["options"].keys() <= {"task_id", "root_id"}
        and _is_group_of_many(header)
        and signature["options"].get("task_id") == header["options"].get("task_id")
    )


def _is_group_of_many(signature: Any) -> bool:
    # A group of one would be that one.
    return (
        isinstance(signature, Mapping)
        and signature.get("subtask_type") == "group"
        and bool(signature["options"].get("task_id"))
        and len(signature["kwargs"]["tasks"]) > 1
    )


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
