"""The result of one task, which may not be there yet: waited for, revoked, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

from pgtasks import _state, states
from pgtasks import result as package
from pgtasks.exceptions import TimeoutError
from pgtasks.result.meta import ResultBase, TaskMeta
from pgtasks.result.tree import ResultTree

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncResult", "ResultBase"]

R = TypeVar("R")


class AsyncResult(TaskMeta, ResultTree, Generic[R]):
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

    conflict: bool = False

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
            NotCommitted: This thread has sent the task in a transaction that is open still.
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
        from pgtasks.app import transactions

        transactions.assert_committed(self.app, [self])
        self.backend.add_pending_result(self)
        try:
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
        except TimeoutError:
            raise
        except Exception:
            if follow_parents and propagate and self.parent:
                # The one before it may have failed since the last look, and this one
                # because of it: then what that raised is what happened, not a ChordError.
                self._maybe_reraise_parent_error()
            raise

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
            from pgtasks.app import transactions

            await transactions.aassert_committed(self.app, [self])
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
        parents = list(self._parents())
        parents.reverse()
        if len(parents) > 1:
            # Those that are unfinished in one question: a chain may have hundreds.
            self.app.ResultSet(parents).maybe_throw()
        elif parents:
            parents[0].maybe_throw()

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
