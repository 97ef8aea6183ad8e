"""Jobs as rows of a transaction that the caller has lent."""

from __future__ import annotations

from collections.abc import Sequence

from pgtasks.job import NewJob
from pgtasks.storage import jobs as storage
from pgtasks.storage.jobs import Inserted
from pgtasks.storage.query import Query, load

__all__ = ["insert"]

SQL = load("lending.sql")


def insert(jobs: Sequence[NewJob]) -> Query[list[Inserted]]:
    """Insert ``jobs`` in the order given, and notify who sleeps, at the commit.

    Args:
        jobs: As of `pgtasks.storage.jobs.insert`.
    """
    if len(jobs) == 1:
        values = storage.plain(jobs[0])
        if values is not None:
            return Query(SQL["insert_one"], values, storage.only_inserted(jobs[0]))
    return storage.insert(jobs, wake="always")
