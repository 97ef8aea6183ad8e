"""Has jobs join Django's ``atomic()``, and transactional tasks run inside of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.storage.places import same_place

__all__ = ["OpenTransaction"]


class OpenTransaction:
    """Finds the transaction that this thread has open on the application's own database.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        # A database is asked for its address by each call that is made within it.
        self._answers: dict[tuple[Any, ...], bool] = {}

    def __call__(self) -> Any:
        """The connection of Django's with the transaction, or None."""
        for connection in _begun():
            if connection.in_atomic_block and self._is_ours(connection):
                return connection
        return None

    def begin(self, is_async: bool) -> Any:
        """A context: ``atomic()`` on the application's own database; None if it is another's.

        Args:
            is_async: It is for a coroutine, and Django has none for those.
        """
        from django.db import DEFAULT_DB_ALIAS, connections

        if is_async:
            return None
        if keeps_jobs_in_memory(self._app):
            # A test: there is no database that it would have to be.
            return _atomic(DEFAULT_DB_ALIAS)
        for alias in connections:
            if self._is_ours(connections[alias]):
                return _atomic(alias)
        return None

    def _is_ours(self, connection: Any) -> bool:
        if connection.vendor != "postgresql":
            return False
        given = connection.settings_dict
        # A test runner gives its databases other names while it runs.
        key = (
            *(given.get(name) for name in ("NAME", "HOST", "PORT", "USER")),
            (given.get("OPTIONS") or {}).get("service"),
            self._app.database.endpoint,
        )
        answer = self._answers.get(key)
        if answer is None:
            there = connection.get_connection_params()
            there.setdefault("dbname", there.get("database"))
            answer = same_place(there, self._app.database.endpoint.given)
            self._answers[key] = answer
        return answer


@contextmanager
def _atomic(alias: str) -> Iterator[Any]:
    from django.db import connections, transaction

    with transaction.atomic(using=alias):
        yield connections[alias]


def _begun() -> Iterator[Any]:
    """The connections that this thread has used."""
    from django.db import connections

    try:
        yield from connections.all(initialized_only=True)
    except TypeError:
        # Before Django 4.1 it knows no such argument.
        yield from connections.all()
