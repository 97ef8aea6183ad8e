"""The result of a task that was run in the caller's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pgtasks import result as package
from pgtasks import states
from pgtasks.exceptions import TaskRevokedError
from pgtasks.result.async_result import AsyncResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = ["EagerResult"]

R = TypeVar("R")


class EagerResult(AsyncResult[R]):
    """A result that is there from the beginning: ``task.apply()``, ``task_always_eager``.

    Args:
        id: The task's id.
        ret_value: What the task returned, or the exception it raised.
        state: How it ended.
        traceback: Text of the traceback, if it failed.
        name: Name of the task.
    """

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        # Not the constructor of AsyncResult: there may be no app and there is no backend.
        self.id = id
        self._result = ret_value
        self._state = state
        self._traceback = traceback
        self._name = name

    def get(  # type: ignore[override]
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **kwargs: Any,
    ) -> R:
        """Return what the task returned, or raise what it raised."""
        if disable_sync_subtasks:
            package.assert_will_not_block()
        if self.successful() or self.state in states.PROPAGATE_STATES:
            if propagate and not self.successful():
                error = self._result
                raise error if isinstance(error, Exception) else Exception(error)
            return self._result  # type: ignore[no-any-return]
        return None  # type: ignore[return-value]

    wait = get  # type: ignore[assignment]

    async def aget(  # type: ignore[override]
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **kwargs: Any,
    ) -> R:
        """`get`; there is nothing to wait for."""
        return self.get(timeout, propagate, disable_sync_subtasks)

    def ready(self) -> bool:
        """True: the task has run."""
        return True

    def then(
        self,
        callback: Callable[..., Any],
        on_error: Callable[..., Any] | None = None,
        weak: bool = False,
    ) -> Any:
        """Have ``callback`` called with this result, at once."""
        return self.on_ready.then(callback, on_error)

    def forget(self) -> None:
        """Nothing: the result is nowhere but here."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Replace the result by the `TaskRevokedError` that a worker would have left.

        The task has run all the same.
        """
        self._state = states.REVOKED
        self._result = TaskRevokedError("revoked")
        self._traceback = None

    @property
    def _cache(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            "task_id": self.id,
            "result": self._result,
            "status": self._state,
            "traceback": self._traceback,
            "name": self._name,
        }

    def _get_task_meta(self) -> dict[str, Any]:
        return self._cache

    @property
    def result(self) -> Any:
        """What the task returned, or the exception it raised."""
        return self._result

    @property
    def state(self) -> str:
        """How the task ended."""
        return self._state

    status = state

    @property
    def traceback(self) -> str | None:
        """Text of the traceback, if the task failed."""
        return self._traceback

    @property
    def supports_native_join(self) -> bool:
        """False: there is no store to read many results from."""
        return False

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"

    def __copy__(self) -> Self:
        return type(self)(*self.__reduce_args__())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.__reduce_args__()

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self._result, self._state, self._traceback, self._name

    def __del__(self) -> None:
        pass
