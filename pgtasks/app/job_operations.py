"""What ``app.jobs`` does to jobs: retry, cancel, delete, change, hold, release them.

Each operation is about one job (its id, its `AsyncResult`, its `JobInfo`), about a list of
them, or about all that a filter finds. Those are found first and then taken in batches,
each of which is a transaction of its own, so that a million jobs neither lock the tables
nor are done by halves unnoticed: what one call has left is found by the next.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from typing import Any

from pgtasks import states
from pgtasks.app.job_batches import BATCH, Batches, Ids, Progress
from pgtasks.app.job_changes import READABLE, changes_of
from pgtasks.utils.nodenames import gethostname

__all__ = ["Operations"]

WAITING = frozenset(
    {states.SUSPENDED, states.SCHEDULED, states.AVAILABLE, states.RETRYABLE}
)
POSSIBLE = {
    "cancelled": WAITING | {states.EXECUTING},
    "retried": states.FINISHED_JOB_STATES
    | {states.SUSPENDED, states.SCHEDULED, states.RETRYABLE},
    "deleted": states.JOB_STATES - {states.EXECUTING},
    "held": WAITING,
    "released": frozenset({states.SUSPENDED}),
    "changed": WAITING,
}
"""In which states what can be done."""


class Operations(Batches):
    """The upper floor of ``app.jobs``: what changes jobs."""

    def retry(
        self,
        job: Any = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        batch: int = BATCH,
        **filters: Any,
    ) -> int:
        """Have jobs run again, or sooner than they would.

        What was discarded or cancelled is available again under its id, with one more
        attempt than it has had; its attempts and errors stay, its result goes. What is
        scheduled or retryable, or held by hand, may run now. What has succeeded is run
        again only if it is named, or ``state="completed"`` asks for it.

        Args:
            job: An id, an `AsyncResult`, a `JobInfo`, or a list of such.
            dry_run: Only say how many jobs that would be.
            progress: Called after each batch with the number of jobs that it has done.
            batch: Jobs of one transaction.
            **filters: See `JobFilter`, in place of ``job``.

        Returns:
            How many jobs that were.

        Raises:
            JobNotFound: There is no such job.
            JobStateError: The one job that was named runs, or may run already.
        """
        from pgtasks.storage import admin

        possible = POSSIBLE["retried"]
        if job is None and filters.get("state") is None:
            possible = possible - {states.COMPLETED}

        def step(ids: Ids, filter: str, found: Mapping[str, str]) -> int:
            # Workers were told to cancel some of them on sight, and must forget it first.
            forgiven = [each for each in ids if found.get(each) == states.CANCELLED]
            if forgiven:
                self.app.control.forgive(forgiven)
            return len(self._run(admin.retry(ids, filter=filter), retry=True))

        return self._do("retried", possible, step, job, filters, dry_run, progress, batch)

    def cancel(
        self,
        job: Any = None,
        *,
        reason: str | None = None,
        by: str | None = None,
        signal: str = "TERM",
        dry_run: bool = False,
        progress: Progress | None = None,
        batch: int = BATCH,
        **filters: Any,
    ) -> int:
        """Have jobs not run, or run no longer.

        What waits ends in the table at once, whether a worker runs or not. What runs is
        ended by its worker within a moment: in the pool ``prefork`` by a signal to its
        process. In the pools ``threads`` and ``solo`` it cannot be stopped; there it runs
        to its end, and is not retried.

        Args:
            job: An id, an `AsyncResult`, a `JobInfo`, or a list of such.
            reason: Why; kept with the job, and shown to whoever waits for it.
            by: Who; the user and host of this process by default.
            signal: Which signal ends what runs.
            dry_run: Only say how many jobs that would be.
            progress: Called after each batch with the number of jobs that it has done.
            batch: Jobs of one transaction.
            **filters: See `JobFilter`, in place of ``job``.

        Returns:
            How many jobs have ended, or are about to be.

        Raises:
            JobNotFound: There is no such job.
            JobStateError: The one job that was named is over.
        """
        note = f"cancelled by {by or _me()}" + (f": {reason}" if reason else "")

        def step(ids: Ids, filter: str, found: Mapping[str, str]) -> int:
            return self._cancel(ids, filter, note, signal)

        possible = POSSIBLE["cancelled"]
        return self._do("cancelled", possible, step, job, filters, dry_run, progress, batch)

    def _cancel(self, ids: Ids, filter: str, note: str, signal: str) -> int:
        from pgtasks.app.cancel import cancel
        from pgtasks.storage import admin

        done = set(cancel(self.app, ids, note, note=note, filter=filter))
        rest = [each for each in ids if each not in done]
        if not rest:
            return len(done)
        running = self._run(admin.running(rest, filter=filter), retry=True)
        if running:
            # To all workers: the one that has it may lose it to another.
            self.app.control.revoke(
                running, terminate=True, signal=signal, reason=note, waiting=False
            )
            done.update(running)
        # What was claimed after the first look, and has come back before the second one.
        rest = [each for each in rest if each not in done]
        if rest:
            done.update(cancel(self.app, rest, note, note=note, filter=filter))
        return len(done)

    def delete(
        self,
        job: Any = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        batch: int = BATCH,
        **filters: Any,
    ) -> int:
        """Delete jobs, waiting or over; there is no way back.

        Args:
            job: An id, an `AsyncResult`, a `JobInfo`, or a list of such.
            dry_run: Only say how many jobs that would be.
            progress: Called after each batch with the number of jobs that it has done.
            batch: Jobs of one transaction.
            **filters: See `JobFilter`, in place of ``job``.

        Returns:
            How many jobs that were.

        Raises:
            JobNotFound: There is no such job.
            JobStateError: The one job that was named runs: cancel it first.
        """
        from pgtasks.storage import admin

        def step(ids: Ids, filter: str, found: Mapping[str, str]) -> int:
            return len(self._run(admin.delete(ids, filter=filter), retry=True))

        possible = POSSIBLE["deleted"]
        return self._do("deleted", possible, step, job, filters, dry_run, progress, batch)

    def hold(
        self,
        job: Any = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        batch: int = BATCH,
        **filters: Any,
    ) -> int:
        """Have jobs not run until they are released, be they due or not.

        Args:
            job: An id, an `AsyncResult`, a `JobInfo`, or a list of such.
            dry_run: Only say how many jobs that would be.
            progress: Called after each batch with the number of jobs that it has done.
            batch: Jobs of one transaction.
            **filters: See `JobFilter`, in place of ``job``.

        Returns:
            How many jobs that were.

        Raises:
            JobNotFound: There is no such job.
            JobStateError: The one job that was named runs, is over or is held already.
        """
        from pgtasks.storage import admin

        def step(ids: Ids, filter: str, found: Mapping[str, str]) -> int:
            return len(self._run(admin.hold(ids, filter=filter), retry=True))

        possible = POSSIBLE["held"]
        return self._do("held", possible, step, job, filters, dry_run, progress, batch)

    def release(
        self,
        job: Any = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        batch: int = BATCH,
        **filters: Any,
    ) -> int:
        """Release held jobs: they are again what they were, or may run if their time has come.

        Args:
            job: An id, an `AsyncResult`, a `JobInfo`, or a list of such.
            dry_run: Only say how many jobs that would be.
            progress: Called after each batch with the number of jobs that it has done.
            batch: Jobs of one transaction.
            **filters: See `JobFilter`, in place of ``job``.

        Returns:
            How many jobs that were.

        Raises:
            JobNotFound: There is no such job.
            JobStateError: The one job that was named is not held.
        """
        from pgtasks.storage import admin

        def step(ids: Ids, filter: str, found: Mapping[str, str]) -> int:
            return len(self._run(admin.release(ids, filter=filter), retry=True))

        possible = POSSIBLE["released"]
        return self._do("released", possible, step, job, filters, dry_run, progress, batch)

    def update(
        self,
        job: Any = None,
        changes: Mapping[str, Any] | None = None,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        batch: int = BATCH,
        **filters: Any,
    ) -> int:
        """Change jobs that have not begun.

        Args:
            job: An id, an `AsyncResult`, a `JobInfo`, or a list of such.
            changes: New values of ``args``, ``kwargs``, ``max_attempts``, ``meta``, ``priority``,
                ``queue``, ``scheduled_at``, ``tags``, ``task`` or ``expires``, each in place of
                the old one. ``scheduled_at`` and ``expires`` are dates, seconds from now, or
                timedeltas; ``expires: None`` has it never expire.
            dry_run: Only say how many jobs that would be.
            progress: Called after each batch with the number of jobs that it has done.
            batch: Jobs of one transaction.
            **filters: See `JobFilter`, in place of ``job``.

        Returns:
            How many jobs that were.

        Raises:
            JobNotFound: There is no such job.
            JobStateError: The one job that was named runs, is over, is locked by somebody, or
                has signed or packed arguments that cannot be exchanged.
        """
        from pgtasks.storage import admin

        new = changes_of(self.app, changes or {})
        readable = not READABLE.isdisjoint(new)

        def step(ids: Ids, filter: str, found: Mapping[str, str]) -> int:
            query = admin.update(ids, new, readable=readable, filter=filter)
            return len(self._run(query, retry=True))

        possible = POSSIBLE["changed"]
        return self._do("changed", possible, step, job, filters, dry_run, progress, batch)

    def reprioritise(
        self,
        job: Any = None,
        priority: int = 0,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        batch: int = BATCH,
        **filters: Any,
    ) -> int:
        """Have waiting jobs run sooner or later than others; `update` of the priority."""
        return self.update(
            job,
            {"priority": priority},
            dry_run=dry_run,
            progress=progress,
            batch=batch,
            **filters,
        )


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user}@{gethostname()}"
