"""A row of the tables in the terms of a result: what Celery calls its meta."""

from __future__ import annotations

import builtins
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pgtasks import serialization, states
from pgtasks.backends.codec import _find_class

if TYPE_CHECKING:
    from pgtasks.storage.results import Result

__all__ = ["Meta", "date_of", "exception_named", "last_error", "meta_of"]


class Meta(dict[str, Any]):
    """A meta whose arguments are decoded when somebody asks for them."""

    row: Any = None
    backend: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key``; ``args`` and ``kwargs`` are read from the row."""
        if key in ("args", "kwargs") and key not in self and self.row is not None:
            row = self.row
            self["args"], self["kwargs"] = serialization.load_arguments(
                row.args, row.kwargs, row.body, row.content_type, row.content_encoding,
                self.backend.accept,
            )  # fmt: skip
        return super().get(key, default)


def meta_of(backend: Any, row: Result) -> Meta:
    """What a row says of its task; an exception is still as it was stored.

    Args:
        backend: Reads what is serialized.
        row: The row.
    """
    status = states.status_of(row.state, row.status)
    traceback = row.traceback
    value = None
    if status == states.RETRY:
        value, traceback = last_error(row)
        if row.result is not None:
            value = backend.load(row.result)
            traceback = None if value is None else traceback
    elif row.finished_at is not None or row.status is not None:
        # A job that runs again has still written down why.
        value = backend.load(row.result, row.result_body, row.result_content_type)
    meta = Meta(
        status=status,
        result=value,
        traceback=traceback,
        children=backend.load(row.children) if row.children else None,
        date_done=date_of(row.finished_at),
        task_id=row.task_id,
        name=row.task,
        worker=row.worker,
        retries=row.retries,
        queue=row.queue,
    )
    meta.row, meta.backend = row, backend
    if row.group_id:
        meta["group_id"] = row.group_id
    if row.parent_id:
        meta["parent_id"] = row.parent_id
    return meta


def date_of(epoch: float | None) -> datetime | None:
    """Seconds since the epoch as a date."""
    if epoch is None:
        return None
    try:
        return datetime.fromtimestamp(epoch, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None  # A row may hold a date that no datetime can (R4).


def last_error(row: Result) -> tuple[Any, str | None]:
    """The exception because of which a job waits to run again."""
    errors = json.loads(row.errors or "[]")
    if not errors:
        return None, None
    last = errors[-1]
    error = exception_named(str(last.get("kind") or "Exception"), last.get("message"))
    return error, last.get("traceback")


def exception_named(kind: str, message: Any) -> Exception:
    """An exception of which the name of its class and its text are known.

    Args:
        kind: The name, with the module unless it is Python's own or ours.
        message: What it is made of; of a class that cannot be, a plain one is made.
    """
    module, _, name = kind.rpartition(".")
    module = module or ("builtins" if hasattr(builtins, name) else "pgtasks.exceptions")
    found = _find_class(name, module)
    if not isinstance(found, type) or not issubclass(found, Exception):
        found = Exception
    try:
        return found(message)
    except Exception:
        return Exception(message)
