"""Looking for jobs: one of them, a page of them, how many there are, why one does not run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pgtasks import states
from pgtasks.app.connection import runs_high_priority_first
from pgtasks.app.job_filter import filter_of
from pgtasks.app.job_info import JobInfo
from pgtasks.exceptions import JobNotFound
from pgtasks.utils.functional import maybe_list

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.app.why import Diagnosis
    from pgtasks.storage.browse import JobRow

__all__ = ["Search", "id_of"]

Page: TypeAlias = "list[JobInfo]"

PATIENCE = 600.0
"""Seconds that a question about all jobs may take; there may be millions in history."""

RECENTLY = (600.0, 21_600.0)
"""Seconds of history that are looked at first, where the newest jobs are asked for."""

MARGIN = 60.0
"""Seconds by which the order of ids may differ from that of times: a long insert."""


class Search:
    """The lower floor of ``app.jobs``: what only looks.

    Args:
        app: The application.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app

    def get(self, job: Any) -> JobInfo:
        """Everything about one job.

        Args:
            job: Its id, or what has one.

        Raises:
            JobNotFound: There is no such job.
        """
        from pgtasks.storage import browse

        task_id = id_of(job)
        found = self._run(browse.look_up([task_id]))
        if task_id not in found:
            raise JobNotFound(
                f"There is no job {task_id!r} in {self.app.database.endpoint.address}. Its id "
                f"may be misspelt, its row pruned (setting result_expires), or it was sent "
                f"to another database."
            )
        return self._info(found[task_id])

    def list(
        self,
        *,
        limit: int = 100,
        order: str = "-inserted",
        after: JobInfo | str | None = None,
        **filters: Any,
    ) -> Page:
        """Some of the jobs that there are.

        Args:
            limit: How many at most.
            order: ``inserted``, ``scheduled``, ``attempted``, ``finished``, ``priority`` or
                ``attempt``; with ``-`` the last of them first.
            after: The last job of the page before, or its ``cursor``: go on behind it.
            **filters: See `JobFilter`; without any, all jobs.
        """
        from pgtasks.storage import browse, diagnosis

        sort = order.removeprefix("-")
        if sort not in browse.SORTS:
            raise ValueError(
                f"order={order!r}: jobs can be listed by {', '.join(browse.SORTS)}, with '-' "
                f"in front in descending order."
            )
        wanted = filter_of(filters)
        for within in _windows(order, filters):
            query = browse.list_(
                wanted.text(self.app, within=within),
                sort=sort,
                descending=order.startswith("-"),
                limit=limit,
                after=_place(after),
            )
            since = 0.0 if within is None else self._run(diagnosis.now()) - within
            rows = self._run(query, timeout=PATIENCE)
            # What ended before began before: if all of the page is younger than that, no
            # older part of history has anything that belongs on it.
            if len(rows) == limit and _began(rows[-1], sort) > since + MARGIN:
                break
        return [self._info(row) for row in rows]

    def iterate(
        self, *, order: str = "-inserted", page: int = 1000, **filters: Any
    ) -> Iterator[JobInfo]:
        """All jobs that a filter finds, page by page; see `list`."""
        last: JobInfo | None = None
        while found := self.list(limit=page, order=order, after=last, **filters):
            yield from found
            last = found[-1]

    def count(self, *, by: str | Sequence[str] = (), **filters: Any) -> Any:
        """How many jobs there are.

        Args:
            by: Count them by ``state``, ``queue``, ``task``, ``worker`` or ``priority``, or by
                several of these.
            **filters: See `JobFilter`; without any, all jobs.

        Returns:
            A number; with ``by`` a dict of numbers, whose keys are tuples if there are several.
        """
        from pgtasks.storage import browse

        one = isinstance(by, str)
        columns = [by] if isinstance(by, str) else [*by]
        for each in columns:
            if each not in browse.COLUMNS:
                raise ValueError(
                    f"by={each!r}: jobs can be counted by {', '.join(browse.COLUMNS)}."
                )
        query = browse.tally(filter_of(filters).text(self.app), by=columns)
        rows = self._run(query, timeout=PATIENCE)
        if not columns:
            return sum(row.jobs for row in rows)
        keys = [tuple(getattr(row, each) for each in columns) for row in rows]
        return {
            key[0] if one else key: row.jobs for key, row in zip(keys, rows, strict=True)
        }

    def why(self, job: Any) -> Diagnosis:
        """Why a job does not run, in plain sentences, and what to do about it.

        Args:
            job: Its id, or what has one.

        Raises:
            JobNotFound: There is no such job.
        """
        from pgtasks.app.why import diagnose

        return diagnose(self.app, self.get(job))

    def _run(self, query: Any, *, retry: bool = True, timeout: float | None = None) -> Any:
        return self.app.database.run(query, retry=retry, timeout=timeout)

    def _info(self, row: Any) -> JobInfo:
        return JobInfo.of(row, high_first=runs_high_priority_first(self.app))


def id_of(job: Any) -> str:
    """The id of what stands for a job."""
    if isinstance(job, JobInfo):
        return job.task_id
    if isinstance(job, str):
        return job
    found = getattr(job, "task_id", None) or getattr(job, "id", None)
    if found is None:
        raise TypeError(
            f"{job!r} is no job: give an id, an AsyncResult, or what app.jobs gave."
        )
    return str(found)


def _windows(order: str, filters: Mapping[str, Any]) -> tuple[float | None, ...]:
    """How far back history is looked at, one after the other; None is all of it."""
    wanted = maybe_list(filters.get("state"))
    if wanted and states.FINISHED_JOB_STATES.isdisjoint(wanted):
        return (0.0,)  # Nothing of it is asked for.
    newest_first = order in ("-inserted", "-attempted", "-finished")
    if newest_first and filters.keys().isdisjoint({"finished_after", "finished_before"}):
        return (*RECENTLY, None)
    return (None,)


def _began(row: JobRow, sort: str) -> float:
    """The time that gives a row its place."""
    if sort == "finished":
        # What has not ended comes first, and is never left out.
        return float("inf") if row.finished_at is None else row.finished_at
    moment = row.inserted_at if sort == "inserted" else row.attempted_at
    return float("-inf") if moment is None else moment


def _place(after: JobInfo | str | None) -> tuple[float, str] | None:
    if after is None:
        return None
    place, task_id = json.loads(after.cursor if isinstance(after, JobInfo) else after)
    return float(place), str(task_id)
