"""Results as rows: read where the jobs are, and waited for by notification."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pgtasks import serialization, states
from pgtasks.backends.base import BaseBackend
from pgtasks.backends.propagation import Unborn, rest_of_chain
from pgtasks.backends.rows import meta_of
from pgtasks.exceptions import TimeoutError
from pgtasks.result import result_from_tuple
from pgtasks.utils.log import get_logger

if TYPE_CHECKING:
    from pgtasks.storage.query import Query
    from pgtasks.storage.results import Result

__all__ = ["PostgresBackend"]

logger = get_logger("celery.backends.postgres")

#: Seconds between two looks: at first, and at most unless the caller says.
FIRST_LOOK, USUAL_LOOK = 0.05, 0.5

_NONE: Mapping[str, Sequence[str]] = {}


class PostgresBackend(BaseBackend):
    """Reads results from the jobs' own rows.

    A worker writes a result together with the end of its job, so that storing is not this
    class's business, but for states on the way.
    """

    supports_native_join = True
    supports_autoexpire = True
    thread_safe = True

    def as_uri(self, include_password: bool = False) -> str:
        """The database's URL; without the password unless asked for."""
        from kombu.utils.url import maybe_sanitize_url

        url = str(self.app.database.url)
        return url if include_password else str(maybe_sanitize_url(url))

    # ── writing ─────────────────────────────────────────────────────────────────────────

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str | None,
        traceback: str | None = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        from pgtasks.storage import jobs, results

        database = self.app.database
        text, body, content_type = self.dump(result)
        if state in self.READY_STATES and not _is_running(request, task_id):
            query = results.store(
                task_id,
                state=_JOB_STATE_OF[state],
                status=state,
                result=text,
                result_body=body,
                result_content_type=content_type,
                traceback=traceback,
                children=json.dumps(self.current_task_children(request) or []),
                task=getattr(request, "task", None) or "",
            )
        else:
            if text is None:
                # The column is text; a state on the way is JSON whatever results are.
                text = serialization.dumps(result)
            query = jobs.progress(task_id, str(state), text)
        if not database.run(query, retry=True):
            logger.debug(
                "State %s of task %s was not stored: it does not run.", state, task_id
            )
        return result

    def _forget(self, task_id: str) -> None:
        from pgtasks.storage import results

        self.app.database.run(results.forget([task_id]), retry=True)

    def cleanup(self) -> None:
        """Delete the jobs that ended longer ago than ``result_expires``, in batches."""
        from pgtasks.storage import jobs, results

        if self.expires:
            while self.app.database.run(jobs.prune(self.expires), retry=True):
                pass
            self.app.database.run(results.prune_groups(self.expires), retry=True)

    # ── groups and chords ───────────────────────────────────────────────────────────────

    def add_to_chord(self, group_id: str, result: Any) -> None:
        """Nothing is left to do: the insert of a member counts it."""

    def _never_run(self, chain: Any) -> list[Unborn]:
        return rest_of_chain(chain)

    def save_group(self, group_id: str, result: Any) -> Any:
        """Store which results belong to a group."""
        from pgtasks.storage import results

        members = serialization.dumps(result.as_tuple())
        self.app.database.run(results.save_group(group_id, members), retry=True)
        return result

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The group that was saved, or None."""
        from pgtasks.storage import results

        members = self.app.database.run(results.restore_group(group_id), retry=True)
        if members is None:
            return None
        return result_from_tuple(serialization.loads(members), self.app)

    def delete_group(self, group_id: str) -> None:
        """Undo `save_group`."""
        from pgtasks.storage import results

        self.app.database.run(results.delete_group(group_id), retry=True)

    # ── reading ─────────────────────────────────────────────────────────────────────────

    def get_job(self, task_id: str) -> Result | None:
        """The row of a task."""
        return self._read([task_id]).get(task_id)

    def _read(self, task_ids: Iterable[str]) -> dict[str, Result]:
        from pgtasks.storage import results

        found: dict[str, Result] = self.app.database.run(
            results.read([str(task_id) for task_id in task_ids]), retry=True
        )
        return found

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        return self._meta(self.get_job(str(task_id)))

    def read_many(self, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The metas of many tasks, by id, in one question."""
        return {task_id: self._meta(row) for task_id, row in self._read(task_ids).items()}

    def read_failed(self, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The metas of those of these tasks that may have failed, and of no others."""
        from pgtasks.storage import results

        query = results.read_failed([str(task_id) for task_id in task_ids])
        found = self.app.database.run(query, retry=True)
        return {task_id: self._meta(row) for task_id, row in found.items()}

    def task_result_exists(self, task_id: str) -> bool:
        """Whether there is a row of this task."""
        return self.get_job(task_id) is not None

    def _meta(self, row: Result | None) -> dict[str, Any]:
        if row is None:
            return {"status": states.PENDING, "result": None}
        return self.meta_from_decoded(meta_of(self, row))

    # ── waiting ─────────────────────────────────────────────────────────────────────────

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = USUAL_LOOK,
        no_ack: bool = True,
        on_interval: Callable[..., Any] | None = None,
        ancestors: Mapping[str, Sequence[str]] = _NONE,
    ) -> dict[str, Any]:
        """Wait until the task is over, and return its meta.

        Args:
            task_id: The task.
            timeout: Seconds to wait at most.
            interval: Longest time between two looks.
            no_ack: Celery's, unused.
            on_interval: Called after each look that found it unfinished.
            ancestors: The tasks before it in its chain, by its id.

        Raises:
            TimeoutError: It took longer than ``timeout``.
        """
        self._ensure_not_eager()
        if task_id in self._cache:
            return self._cache[task_id]  # type: ignore[no-any-return]
        for rows in self._looks([task_id], timeout, interval, on_interval, ancestors):
            row = rows.get(task_id)
            if row is not None and row.finished:
                meta = self._meta(row)
                if meta["status"] == states.SUCCESS:
                    self._cache[task_id] = meta
                return meta
        raise self._too_late(task_id, timeout, rows.get(task_id))

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float | None = USUAL_LOOK,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[..., Any] | None = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = states.READY_STATES,
        ancestors: Mapping[str, Sequence[str]] = _NONE,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The results of ``task_ids`` as the tasks end, as ``(id, meta)``."""
        waiting = {str(task_id) for task_id in task_ids}
        if not waiting:
            return
        looks = self._looks(
            waiting, timeout, interval or USUAL_LOOK, on_interval, ancestors
        )
        for look, rows in enumerate(looks, 1):
            for task_id, row in rows.items():
                if row.finished and task_id in waiting:
                    waiting.discard(task_id)
                    meta = self._meta(row)
                    if on_message is not None:
                        on_message(meta)
                    yield task_id, meta
            if not waiting or look == max_iterations:
                return
        raise TimeoutError(f"{len(waiting)} tasks were not ready after {timeout} s.")

    def _looks(
        self,
        task_ids: Iterable[str],
        timeout: float | None,
        interval: float,
        on_interval: Callable[..., Any] | None,
        ancestors: Mapping[str, Sequence[str]],
    ) -> Iterator[dict[str, Result]]:
        """The rows of ``task_ids``, now and whenever something may have happened.

        Ends when the time is up. The caller takes from ``task_ids`` what it has seen.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        rows = self._read(task_ids)
        yield rows
        if on_interval is not None:
            on_interval()
        if deadline is not None and time.monotonic() >= deadline:
            return
        woken = threading.Event()
        with self._woken_by(task_ids, woken.set):
            nap = FIRST_LOOK
            marked: set[str] = set()
            while True:
                woken.clear()
                # One that is not there any more has been replaced: what takes its place,
                # under its id, is another row.
                marked.intersection_update(rows)
                marked |= self._mark(set(task_ids) - marked, rows, ancestors)
                rows = self._read(task_ids)
                yield rows
                if on_interval is not None:
                    on_interval()
                left = interval if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return
                heard = marked.issuperset(task_ids) and self.app.notifier.listening
                woken.wait(min(interval if heard else nap, left))
                nap = min(nap * 1.5, interval)

    def _mark(
        self,
        task_ids: set[str],
        rows: dict[str, Result],
        ancestors: Mapping[str, Sequence[str]],
    ) -> set[str]:
        """Have the end of these jobs notify; answer those of which that is certain.

        A job that nobody has seen yet may be inserted between the marking and the next
        look, and is marked again then; unless a job before it in its chain was there to
        be told, which tells its heirs.
        """
        if not task_ids:
            return set()
        query, before = _marking(task_ids, ancestors, rows)
        found = self.app.database.run(query, retry=True)
        return {
            task_id
            for task_id in task_ids
            if task_id in rows or not found.isdisjoint(before.get(task_id, ()))
        }

    def _kinship(self, results: Iterable[Any], whole: Any) -> dict[str, Any]:
        # Members of a group at the end of a chain have no parents, but the group has.
        common = _ancestors(whole)
        ancestors = {result.id: _ancestors(result) or common for result in results}
        return {"ancestors": ancestors} if any(ancestors.values()) else {}

    @contextmanager
    def _woken_by(self, task_ids: Iterable[str], wake: Callable[[], Any]) -> Iterator[None]:
        def heard(payload: str | None) -> None:
            if payload is None or payload in task_ids:
                wake()

        unsubscribe = self.app.notifier.subscribe("pgtasks.results", heard)
        try:
            yield
        finally:
            unsubscribe()

    async def await_result(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = USUAL_LOOK,
        parents: Iterable[Any] = (),
    ) -> dict[str, Any]:
        """`wait_for` on an event loop, which goes on meanwhile.

        Raises:
            TimeoutError: It took longer than ``timeout``.
        """
        import asyncio

        from pgtasks.storage import results

        self._ensure_not_eager()
        database = self.app.async_database
        ancestors = {task_id: [parent.id for parent in parents]} if parents else {}
        deadline = None if timeout is None else time.monotonic() + timeout
        wanted = [task_id, *(parent.id for parent in parents)]
        by_id = {parent.id: parent for parent in parents}

        async def look() -> Result | None:
            rows: dict[str, Result] = await database.run(results.read(wanted), retry=True)
            for parent_id, parent in by_id.items():
                if parent_id in rows and rows[parent_id].finished:
                    parent._maybe_set_cache(self._meta(rows[parent_id]))
                    parent.maybe_throw()
            return rows.get(task_id)

        row = await look()
        if row is not None and row.finished:
            return self._meta(row)
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        with self._woken_by(wanted, lambda: loop.call_soon_threadsafe(woken.set)):
            nap, marked = FIRST_LOOK, False
            while True:
                woken.clear()
                if not marked or row is None:
                    rows = {} if row is None else {task_id: row}
                    query, before = _marking([task_id], ancestors, rows)
                    found = await database.run(query, retry=True)
                    marked = row is not None or not found.isdisjoint(
                        before.get(task_id, ())
                    )
                row = await look()
                if row is not None and row.finished:
                    return self._meta(row)
                left = interval if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise self._too_late(task_id, timeout, row)
                heard = marked and self.app.notifier.listening
                try:
                    await asyncio.wait_for(
                        woken.wait(), min(interval if heard else nap, left)
                    )
                except asyncio.TimeoutError:
                    pass
                nap = min(nap * 1.5, interval)

    def _too_late(
        self, task_id: str, timeout: float | None, row: Result | None
    ) -> Exception:
        if row is None:
            what = "there is no such job: it was not sent, or its transaction is still open"
        else:
            what = f"it is {states.status_of(row.state, row.status)} ({row.state})"
        return TimeoutError(f"Task {task_id} was not ready after {timeout} s: {what}.")


def _ancestors(result: Any) -> list[str]:
    """The ids of the tasks and of the groups before this result in its chain."""
    ids = []
    while (result := getattr(result, "parent", None)) is not None:
        ids.append(result.id)
    return ids


def _marking(
    task_ids: Iterable[str],
    ancestors: Mapping[str, Sequence[str]],
    rows: Mapping[str, Result],
) -> tuple[Query[set[str]], dict[str, Sequence[str]]]:
    """The query that marks ``task_ids``, and those ancestors of theirs that it asks.

    Of a task that has its row, such as the body of a chord, nobody before it is asked.
    """
    from pgtasks.storage import results

    before = {
        each: ancestors[each]
        for each in task_ids
        if ancestors.get(each) and each not in rows
    }
    if before:
        return results.await_descendants(sorted(task_ids), before), before
    return results.await_(sorted(task_ids)), before


_JOB_STATE_OF = {
    states.SUCCESS: states.COMPLETED,
    states.FAILURE: states.DISCARDED,
    states.REVOKED: states.CANCELLED,
}


def _is_running(request: Any, task_id: str) -> bool:
    """Whether the task that runs says this of itself, so that its row is still to do."""
    return (
        request is not None
        and not getattr(request, "called_directly", True)
        and not getattr(request, "is_eager", False)
        and getattr(request, "id", None) == task_id
    )
