"""The result of one task, which may not be there yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

from pgtasks import _state, states
from pgtasks import result as package
from pgtasks.exceptions import IncompleteStream, TimeoutError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncResult", "ResultBase"]

R = TypeVar("R")


class ResultBase:
    """What all results have in common."""

    #: Result of the task before this one in a chain.
    parent: ResultBase | None = None


class AsyncResult(ResultBase, Generic[R]):
    """The state and the result of one task, by its id.

    An id that nobody has heard of is PENDING: it may yet be sent.

    Args:
        id: The task's id.
        backend: Where results are read; the app's own by default.
        task_name: Celery's, unused.
        app: The app that sent the task.
        parent: Result of the task before it in a chain.

    Attributes:
        conflict: The task was not sent, for its id or its unique key was taken by another
            that is still to run; this is that one's result.
    """

    TimeoutError: ClassVar[type[Exception]] = TimeoutError

    app: Any = None
    backend: Any = None
    id: str = None  # type: ignore[assignment]
    conflict: bool = False

    _cache: dict[str, Any] | None = None
    _ignored: bool = False
    _on_ready: Any = None

    def __init__(
        self,
        id: str,
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
        parent: ResultBase | None = None,
    ) -> None:
        if id is None:
            raise ValueError(
                "AsyncResult needs the id of a task, not None. It is the 'id' of what "
                "delay() and apply_async() return."
            )
        self.app = _state.app_or_default(app or self.app)
        self.id = id
        self.backend = backend or self.app.backend
        self.parent = parent
        self._ignored = False

    # ── waiting ─────────────────────────────────────────────────────────────────────────

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[..., Any] | None = None,
        disable_sync_subtasks: bool = True,
        EXCEPTION_STATES: frozenset[str] = states.EXCEPTION_STATES,
        PROPAGATE_STATES: frozenset[str] = states.PROPAGATE_STATES,
    ) -> R:
        """Wait for the task to end, and return what it returned.

        Args:
            timeout: Seconds to wait at most; the task itself is left alone.
            propagate: Raise the task's exception; otherwise return it.
            interval: Longest time between two looks. Where the database can notify us,
                the end of the task is seen at once whatever it is.
            no_ack: Celery's, unused.
            follow_parents: Raise the exception of an earlier task in the chain, because
                of which this one never runs.
            callback: Called with the id and the value.
            on_message: Not supported; only brokers have messages.
            on_interval: Called after each look that found the task unfinished.
            disable_sync_subtasks: Refuse to wait inside a task.
            EXCEPTION_STATES: Celery's, unused.
            PROPAGATE_STATES: Celery's, unused.

        Raises:
            TimeoutError: It took longer than ``timeout``; pgtasks' own class, as Celery's.
            RuntimeError: Called within a task.
        """
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            package.assert_will_not_block()
        hooks: list[Callable[..., Any]] = []
        if follow_parents and propagate and self.parent:
            self._maybe_reraise_parent_error()
            hooks.append(self._maybe_reraise_parent_error)
        if on_interval is not None:
            hooks.append(on_interval)

        if self._cache:
            if propagate:
                self.maybe_throw(callback=callback)
            return self.result  # type: ignore[no-any-return]
        self.backend.add_pending_result(self)
        return self.backend.wait_for_pending(  # type: ignore[no-any-return]
            self,
            timeout=timeout,
            interval=interval,
            on_interval=_all_of(hooks),
            no_ack=no_ack,
            propagate=propagate,
            callback=callback,
            on_message=on_message,
        )

    wait = get

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        follow_parents: bool = True,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """`get` for coroutines: the event loop goes on while this waits."""
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            package.assert_will_not_block()
        if self._cache is None:
            parents = list(self._parents()) if follow_parents and propagate else []
            meta = await self.backend.await_result(
                self.id, timeout=timeout, interval=interval, parents=parents
            )
            self._maybe_set_cache(meta)
            return self.maybe_throw(propagate=propagate, cache=meta)  # type: ignore[no-any-return]
        return self.maybe_throw(propagate=propagate)  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    def then(
        self,
        callback: Callable[..., Any],
        on_error: Callable[..., Any] | None = None,
        weak: bool = False,
    ) -> Any:
        """Have ``callback`` called with this result once it has been seen to be ready."""
        self.backend.add_pending_result(self, weak=weak)
        return self.on_ready.then(callback, on_error)

    @property
    def on_ready(self) -> Any:
        """A promise (vine's), fulfilled when the result has been seen to be ready."""
        # Made when somebody asks: most results are never looked at again.
        if self._on_ready is None:
            from vine import promise

            self._on_ready = promise()
            if self._cache and self._cache.get("status") in states.READY_STATES:
                self._on_ready(self)
        return self._on_ready

    def _maybe_reraise_parent_error(self, *args: Any) -> None:
        for node in reversed(list(self._parents())):
            node.maybe_throw()

    def _parents(self) -> Iterator[Any]:
        node = self.parent
        while node:
            yield node
            node = node.parent

    # ── looking ─────────────────────────────────────────────────────────────────────────

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

    # ── acting ──────────────────────────────────────────────────────────────────────────

    def forget(self) -> None:
        """Have the result dropped, and those of the tasks before it in the chain."""
        self._cache = None
        if self.parent:
            self.parent.forget()  # type: ignore[attr-defined]
        self.backend.remove_pending_result(self)
        self.backend.forget(self.id)

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Have the task not run.

        Args:
            connection: Celery's, unused.
            terminate: Kill it if it runs already.
            signal: With which signal; TERM by default.
            wait: Wait for the workers' answers.
            timeout: How long to wait for them.
        """
        self.app.control.revoke(
            self.id,
            connection=connection,
            terminate=terminate,
            signal=signal,
            reply=wait,
            timeout=timeout,
        )

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """`revoke` for all tasks that carry these stamps."""
        self.app.control.revoke_by_stamped_headers(
            headers,
            connection=connection,
            terminate=terminate,
            signal=signal,
            reply=wait,
            timeout=timeout,
        )

    def throw(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise the exception that is given, in the name of the task."""
        error, *traceback = args
        if not isinstance(error, BaseException):
            error = Exception(error)
        if traceback and traceback[0] is not None:
            error = error.with_traceback(traceback[0])
        raise error

    def maybe_throw(
        self,
        propagate: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        cache: dict[str, Any] | None = None,
    ) -> Any:
        """Raise the task's exception if it failed; return its value otherwise."""
        meta = cache or (self._get_task_meta() if self._cache is None else self._cache)
        value = meta["result"]
        if propagate and meta["status"] in states.PROPAGATE_STATES:
            self.throw(value, self._to_remote_traceback(meta.get("traceback")))
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def _to_remote_traceback(self, text: str | None) -> Any:
        if text and self.app.conf.task_remote_tracebacks:
            try:
                import tblib  # type: ignore[import-not-found]
            except ImportError:
                return None
            return tblib.Traceback.from_string(text).as_traceback()
        return None

    # ── walking through what the task sent ──────────────────────────────────────────────

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Walk through this result and everything it sent, as ``(parent, result)``.

        Raises:
            IncompleteStream: One is not ready, and ``intermediate`` is not set.
        """
        waiting: deque[tuple[Any, Any]] = deque([(None, self)])
        while waiting:
            parent, node = waiting.popleft()
            yield parent, node
            if node.ready():
                waiting.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream(
                    f"{node!r} is not ready, so that what it sent is not known yet. Wait "
                    f"for it, or pass intermediate=True."
                )

    def collect(
        self, intermediate: bool = False, **kwargs: Any
    ) -> Iterator[tuple[Any, Any]]:
        """Wait for this task and for those that it sent, as ``(result, value)``.

        Follows results that a task returned or sent, so that the leaves of a tree of
        tasks come out; ``Task.trail`` must be on, as it is by default.

        Example:
            >>> from tasks import A
            >>> result = A.delay(10)
            >>> [value for child, value in result.collect()
            ...  if not child.children]
            [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
        """
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> Any:
        """This result and everything it led to, as a `DependencyGraph`."""
        from pgtasks.utils.graph import DependencyGraph, GraphFormatter

        graph = DependencyGraph(
            formatter=formatter or GraphFormatter(root=self.id, shape="oval")
        )
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent:
                graph.add_edge(parent, node)
        return graph

    @cached_property
    def graph(self) -> Any:
        """`build_graph`, once."""
        return self.build_graph()

    def get_leaf(self) -> Any:
        """The value of the last of all tasks that this one led to."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    # ── reading, once it is final ───────────────────────────────────────────────────────

    def _get_task_meta(self) -> dict[str, Any]:
        if self._cache is None:
            return self._maybe_set_cache(self.backend.get_task_meta(self.id))  # type: ignore[no-any-return]
        return self._cache

    def _maybe_set_cache(self, meta: Any) -> Any:
        if meta and meta["status"] in states.READY_STATES:
            self._set_cache(self.backend.meta_from_decoded(meta))
            if self._on_ready is not None:
                self._on_ready(self)
            return self._cache
        return meta

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

    # ── identity ────────────────────────────────────────────────────────────────────────

    @property
    def task_id(self) -> str:
        """The id, by its older name."""
        return self.id

    @task_id.setter
    def task_id(self, id: str) -> None:
        self.id = id

    def as_tuple(self) -> tuple[Any, ...]:
        """The result as plain values, for `result_from_tuple`."""
        parent: Any = self.parent
        return (self.id, parent and parent.as_tuple()), None

    def as_list(self) -> list[str]:
        """Its id and those of the tasks before it in the chain."""
        parent: Any = self.parent
        return [self.id, *(parent.as_list() if parent is not None else ())]

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return bool(other.id == self.id)
        if isinstance(other, str):
            return other == self.id
        return NotImplemented

    def __copy__(self) -> Self:
        return type(self)(self.id, self.backend, None, self.app, self.parent)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.__reduce_args__()

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self.backend, None, None, self.parent

    def __del__(self) -> None:
        backend = self.backend
        if backend is not None:
            backend.remove_pending_result(self)


def _all_of(hooks: list[Callable[..., Any]]) -> Callable[..., Any] | None:
    if len(hooks) <= 1:
        return hooks[0] if hooks else None

    def call_all(*args: Any) -> None:
        for hook in hooks:
            hook(*args)

    return call_all
