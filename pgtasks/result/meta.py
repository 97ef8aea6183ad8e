"""What is known of a task: read when somebody asks, and kept once it is final."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pgtasks import result as package
from pgtasks import states

__all__ = ["ResultBase", "TaskMeta"]


class ResultBase:
    """What all results have in common."""

    #: Result of the task before this one in a chain.
    parent: ResultBase | None = None


class TaskMeta(ResultBase):
    """The part of a result that looks: every attribute is what the store says of the task.

    While the task is unfinished each look reads again. What is final is read once.
    """

    app: Any = None
    backend: Any = None
    id: str = None  # type: ignore[assignment]

    _cache: dict[str, Any] | None = None
    _ignored: bool = False
    _on_ready: Any = None

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or the task's own."""
        return self._get_task_meta()["status"]  # type: ignore[no-any-return]

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, what it raised, or the meta of its own state."""
        return self._get_task_meta()["result"]

    info = result

    @property
    def traceback(self) -> str | None:
        """Text of the traceback, if the task failed."""
        return self._get_task_meta().get("traceback")

    @property
    def children(self) -> list[Any] | None:
        """Results of the tasks that this one sent."""
        return self._get_task_meta().get("children")

    @property
    def name(self) -> str | None:
        """Name of the task."""
        return self._get_task_meta().get("name")

    @property
    def args(self) -> Any:
        """Positional arguments of the task."""
        return self._get_task_meta().get("args")

    @property
    def kwargs(self) -> Any:
        """Keyword arguments of the task."""
        return self._get_task_meta().get("kwargs")

    @property
    def worker(self) -> str | None:
        """Worker that ran the task."""
        return self._get_task_meta().get("worker")

    @property
    def retries(self) -> int | None:
        """How often the task was retried."""
        return self._get_task_meta().get("retries")

    @property
    def queue(self) -> str | None:
        """Queue that the task was sent to."""
        return self._get_task_meta().get("queue")

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, with its time zone."""
        done = self._get_task_meta().get("date_done")
        if done and not isinstance(done, datetime):
            return datetime.fromisoformat(done)
        return done

    @property
    def job(self) -> Any:
        """The task's row, a `pgtasks.storage.results.Result`; None where there is none."""
        return self.backend.get_job(self.id)

    def ready(self) -> bool:
        """Whether the task has ended, in whichever way."""
        return self.state in self.backend.READY_STATES

    def successful(self) -> bool:
        """Whether the task has returned."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task has raised; a revoked task has not."""
        return self.state == states.FAILURE

    def exists(self) -> bool:
        """Whether anything is known of the task; PENDING alone does not tell."""
        return self.backend.task_result_exists(self.id)  # type: ignore[no-any-return]

    @property
    def ignored(self) -> bool:
        """Whether the task was sent with its result ignored: `get` returns None at once."""
        return self._ignored

    @ignored.setter
    def ignored(self, value: bool) -> None:
        self._ignored = value

    # ── reading, once it is final ───────────────────────────────────────────────────────

    def _get_task_meta(self) -> dict[str, Any]:
        if self._cache is None:
            return self._maybe_set_cache(self.backend.get_task_meta(self.id))  # type: ignore[no-any-return]
        return self._cache

    def _maybe_set_cache(self, meta: Any) -> Any:
        if meta and meta["status"] in states.READY_STATES:
            return self._keep(self.backend.meta_from_decoded(meta))
        return meta

    def _keep(self, meta: dict[str, Any]) -> Any:
        self._set_cache(meta)
        if self._on_ready is not None:
            self._on_ready(self)
        return self._cache

    def _set_cache(self, meta: dict[str, Any]) -> dict[str, Any]:
        children = meta.get("children")
        if children:
            meta["children"] = [
                package.result_from_tuple(child, self.app) for child in children
            ]
        self._cache = meta
        return meta

    def _iter_meta(self, **kwargs: Any) -> Iterator[dict[str, Any]]:
        return iter([self._get_task_meta()])

    @property
    def supports_native_join(self) -> bool:
        """Whether many results can be read at once."""
        return self.backend.supports_native_join  # type: ignore[no-any-return]
