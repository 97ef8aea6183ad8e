"""The functions of this package for one application and one connection."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from pgtasks.testing.draining import drain_queue
from pgtasks.testing.enqueued import all_enqueued, assert_enqueued, refute_enqueued
from pgtasks.testing.jobs import Enqueued, app_of
from pgtasks.testing.modes import mode
from pgtasks.testing.performing import Performed, perform_job

__all__ = ["Testing"]


class Testing:
    """What the functions of `pgtasks.testing` do, for one application and connection.

    Args:
        app: The application; the current one by default.
        connection: The connection whose transaction the test's jobs are in; by default the
            one that jobs sent then belong to (see `pgtasks.using`), else the application's.
    """

    __test__ = False  # pytest collects classes whose names begin with Test.

    def __init__(self, app: Any = None, connection: Any = None) -> None:
        self.app = app_of(None, app)
        self.connection = connection

    def mode(self, name: str) -> AbstractContextManager[None]:
        """See `pgtasks.testing.mode`."""
        return mode(self.app, name)

    def perform_job(self, task: Any, *args: Any, **fields: Any) -> Performed:
        """See `pgtasks.testing.perform_job`."""
        return perform_job(task, *args, **{"app": self.app, **fields})

    def all_enqueued(self, task: Any = None, **fields: Any) -> list[Enqueued]:
        """See `pgtasks.testing.all_enqueued`."""
        return all_enqueued(task, **self._here(fields))

    def assert_enqueued(self, task: Any = None, **fields: Any) -> Enqueued:
        """See `pgtasks.testing.assert_enqueued`."""
        return assert_enqueued(task, **self._here(fields))

    def refute_enqueued(self, task: Any = None, **fields: Any) -> None:
        """See `pgtasks.testing.refute_enqueued`."""
        refute_enqueued(task, **self._here(fields))

    def drain_queue(self, queue: Any = None, **options: Any) -> dict[str, int]:
        """See `pgtasks.testing.drain_queue`."""
        return drain_queue(queue=queue, **self._here(options))

    def _here(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"app": self.app, "connection": self.connection, **fields}
