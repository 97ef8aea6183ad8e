"""The caller's side of a task: sending it now, or as a signature that is sent later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from pgtasks import canvas
from pgtasks.app import bulk, modes, publish
from pgtasks.app.batch import starts_with_results
from pgtasks.app.context import Context
from pgtasks.app.options import OMITTED
from pgtasks.app.task_runs import TaskRuns
from pgtasks.app.traceinfo import get_actual_ignore_result
from pgtasks.canvas import Signature, signature
from pgtasks.result import EagerResult, ResultSet, denied_join_result
from pgtasks.utils.ids import time_ordered_uuid as uuid

if TYPE_CHECKING:
    from pgtasks.result import AsyncResult

__all__ = ["TaskCalls"]

P = ParamSpec("P")
R = TypeVar("R")

#: Attributes of a task that hold for each call that does not say otherwise.
_OPTIONS = (
    "queue", "routing_key", "exchange", "priority", "expires", "serializer",
    "delivery_mode", "compression", "time_limit", "soft_time_limit",
    "immediate", "mandatory",
)  # fmt: skip


class TaskCalls(TaskRuns, Generic[P, R]):
    """What callers do with a task."""

    _exec_options: dict[str, Any] | None = None
    _dump_pydantic_arguments: Any = None

    if not TYPE_CHECKING:
        # ``Task[int]`` is a note for type checkers, and costs nothing at run time.
        __class_getitem__ = classmethod(GenericAlias)

    if TYPE_CHECKING:

        def apply(self, *args: Any, **kwargs: Any) -> EagerResult[R]:
            """See `Task.apply`."""

    # ── now ─────────────────────────────────────────────────────────────────────────────

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task with these arguments; for options there is `apply_async`."""
        return self.apply_async(args, kwargs)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """`delay` for coroutines."""
        return await self.aapply_async(args, kwargs)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send the task.

        Args:
            args: Positional arguments, a list or tuple.
            kwargs: Keyword arguments.
            task_id: Its id, any text; a new one by default.
            producer: Celery's, unused.
            link: Signatures to be sent with the result when it has succeeded.
            link_error: Signatures to be called when it has failed.
            shadow: Another name for logs; `shadow_name` decides by default.
            **options: ``countdown`` (seconds), ``eta`` (a date; without a zone it is
                UTC), or Oban's words for them, ``schedule_in`` and ``scheduled_at``;
                ``expires`` (seconds or a date), ``queue``, ``priority``,
                ``headers``, ``serializer``, ``compression``, ``ignore_result``,
                ``time_limit``, ``soft_time_limit``, ``max_attempts``, ``retry``,
                ``retry_policy``, ``connection`` (whose transaction the job is to be part
                of, see `pgtasks.using`; None leaves the one that it would join by
                itself), ``tags``, ``meta``, ``add_to_parent``, ``argsrepr`` and
                ``kwargsrepr`` (shown in logs in place of secrets). What we do not know
                is found again in ``request.properties``.

        Raises:
            TypeError: The arguments do not fit the function; ``typing=False`` lets the
                task find out by itself.
            ValueError: An option is out of range.
            EncodeError: The serializer cannot write the arguments.
            OperationalError: The database cannot be reached, after ``retry_policy``.
        """
        args, kwargs, shadow, options = self._prepare(args, kwargs, shadow, options)
        app = self.app
        if modes.is_eager(app, task_id):
            return self._apply_eagerly(args, kwargs, task_id, link, link_error, options)
        result: AsyncResult[R] = app.send_task(
            self.name,
            args,
            kwargs,
            task_id=task_id,
            producer=producer,
            link=link,
            link_error=link_error,
            result_cls=self.AsyncResult,
            shadow=shadow,
            task_type=self,
            **options,
        )
        return result

    async def aapply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """`apply_async` for coroutines: the event loop goes on while the row is written."""
        args, kwargs, shadow, options = self._prepare(args, kwargs, shadow, options)
        app = self.app
        if modes.is_eager(app, task_id):
            return self._apply_eagerly(args, kwargs, task_id, link, link_error, options)
        result: AsyncResult[R] = await publish.asend_task(
            app,
            self.name,
            args,
            kwargs,
            task_id=task_id,
            link=link,
            link_error=link_error,
            result_cls=self.AsyncResult,
            shadow=shadow,
            task_type=self,
            **options,
        )
        return result

    def delay_many(
        self, calls: Iterable[Any], *, atomic: bool = False, connection: Any = OMITTED
    ) -> ResultSet:
        """Send the task once for each of ``calls``, thousands in one statement.

        Args:
            calls: For each job its positional arguments (a tuple or list), or its keyword
                arguments (a dict), or both (a `Signature`: ``add.s(2, y=2)``).
            atomic: All of them or none, in one transaction.
            connection: A connection whose transaction they are to be part of; see
                `pgtasks.using`. None leaves the one that they would join by themselves.

        Returns:
            The results, in the order of ``calls``; ``.get()`` waits for all of them.
        """
        return self.apply_async_many(calls, atomic=atomic, connection=connection)

    async def adelay_many(
        self, calls: Iterable[Any], *, atomic: bool = False, connection: Any = OMITTED
    ) -> ResultSet:
        """`delay_many` for coroutines."""
        return await self.aapply_async_many(calls, atomic=atomic, connection=connection)

    def apply_async_many(
        self,
        calls: Iterable[Any],
        *,
        atomic: bool = False,
        connection: Any = OMITTED,
        **options: Any,
    ) -> ResultSet:
        """`delay_many` with options, which hold for every job."""
        app = self.app
        prepared = self._prepare_many(calls, options)
        if modes.is_eager(app):
            return self._apply_many_eagerly(prepared)
        results = bulk.send_many(
            app, prepared, task_type=self, atomic=atomic, connection=connection
        )
        return ResultSet(results, app=app)

    async def aapply_async_many(
        self,
        calls: Iterable[Any],
        *,
        atomic: bool = False,
        connection: Any = OMITTED,
        **options: Any,
    ) -> ResultSet:
        """`apply_async_many` for coroutines."""
        app = self.app
        prepared = self._prepare_many(calls, options)
        if modes.is_eager(app):
            return self._apply_many_eagerly(prepared)
        results = await bulk.asend_many(
            app, prepared, task_type=self, atomic=atomic, connection=connection
        )
        return ResultSet(results, app=app)

    def _prepare_many(
        self, calls: Iterable[Any], options: dict[str, Any]
    ) -> list[tuple[str, Any, Any, dict[str, Any]]]:
        prepared = []
        for call in calls:
            args, kwargs, more = bulk.arguments_of(call)
            args, kwargs, shadow, merged = self._prepare(
                args, kwargs, None, {**options, **more} if more else options
            )
            if shadow:
                merged["shadow"] = shadow
            prepared.append((self.name, args, kwargs, merged))
        return prepared

    def _apply_many_eagerly(
        self, prepared: list[tuple[str, Any, Any, dict[str, Any]]]
    ) -> ResultSet:
        results: list[Any] = [
            self._apply_eagerly(args, kwargs, each.pop("task_id", None), None, None, each)
            for _, args, kwargs, each in prepared
        ]
        return ResultSet(results, app=self.app)

    def _prepare(
        self,
        args: Any,
        kwargs: Any,
        shadow: str | None,
        options: dict[str, Any],
    ) -> tuple[Any, Any, str | None, dict[str, Any]]:
        """Check the arguments, and lay the task's own options under those of the call."""
        soft, hard = self.soft_time_limit, self.time_limit
        if soft and hard and soft > hard:
            raise ValueError("soft_time_limit must be less than or equal to time_limit")
        # What a chord's members return is not there yet: the worker finds out.
        if self.typing and not starts_with_results(args):
            check = getattr(self, "__header__", None)
            if check is not None:
                _check_containers(args, kwargs)
                check(*(args or ()), **(kwargs or {}))
        shadow = shadow or self.shadow_name(args, kwargs, options)
        options = {**self._get_exec_options(), **options}
        # Pickle can carry models as they are.
        if (
            self._dump_pydantic_arguments is not None
            and options.get("serializer") != "pickle"
        ):
            args, kwargs = self._dump_pydantic_arguments(args, kwargs)
        options.setdefault("ignore_result", self.ignore_result)
        return args, kwargs, shadow, options

    def _apply_eagerly(
        self,
        args: Any,
        kwargs: Any,
        task_id: str | None,
        link: Any,
        link_error: Any,
        options: dict[str, Any],
    ) -> EagerResult[R]:
        # Through the serializer and back, so that what works here works in a worker.
        args, kwargs = publish.round_trip(self.app, args, kwargs, options.get("serializer"))
        with denied_join_result():
            return self.apply(
                args,
                kwargs,
                task_id=task_id or uuid(),
                link=link,
                link_error=link_error,
                **options,
            )

    def _get_exec_options(self) -> dict[str, Any]:
        if self._exec_options is None:
            self._exec_options = {name: getattr(self, name, None) for name in _OPTIONS}
        return self._exec_options

    def shadow_name(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str | None:
        """Choose another name for one call in logs and events; for subclasses."""

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[R]:
        """The result of the run of this task that has this id."""
        result: AsyncResult[R] = self.app.AsyncResult(
            task_id, backend=self.backend, task_name=self.name, **kwargs
        )
        return result

    # ── later ───────────────────────────────────────────────────────────────────────────

    def signature(
        self, args: Iterable[Any] | None = None, *starargs: Any, **starkwargs: Any
    ) -> Signature[R]:
        """A call of this task that is made later; takes what `Signature` takes."""
        starkwargs.setdefault("app", self.app)
        return signature(self, args, *starargs, **starkwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """`signature` with the arguments as one would pass them: ``add.s(2, 2)``."""
        return self.signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """`s` that takes no further arguments, such as the result of a parent."""
        return self.signature(args, kwargs, immutable=True)

    def chunks(self, it: Iterable[Any], n: int) -> canvas.chunks:
        """A signature that calls the task with each item of ``it``, ``n`` to a job."""
        return canvas.chunks(self.s(), it, n, app=self.app)

    def map(self, it: Iterable[Any]) -> canvas.xmap:
        """A signature of one job that calls the task with each item of ``it``."""
        return canvas.xmap(self, it, app=self.app)

    def starmap(self, it: Iterable[Any]) -> canvas.xstarmap:
        """`map` whose items are lists of positional arguments."""
        return canvas.xstarmap(self, it, app=self.app)

    def signature_from_request(
        self,
        request: Context | None = None,
        args: Any = None,
        kwargs: Any = None,
        queue: Any = None,
        **extra_options: Any,
    ) -> Signature[R]:
        """The signature that would send ``request`` again, to the same queue."""
        request = self.request if request is None else request
        args = request.args if args is None else args
        kwargs = request.kwargs if kwargs is None else kwargs
        options = {
            **request.as_execution_options(),
            "ignore_result": get_actual_ignore_result(self, request),
            **extra_options,
        }
        delivery = request.delivery_info or {}
        if delivery.get("priority") is not None:
            options["priority"] = delivery["priority"]
        if queue:
            options["queue"] = queue
        elif delivery.get("exchange") == "" and delivery.get("routing_key"):
            options["queue"] = delivery["routing_key"]
        else:
            options.update(delivery)
        return self.signature(args, kwargs, options, type=self, **extra_options)

    subtask_from_request = signature_from_request


def _check_containers(args: Any, kwargs: Any) -> None:
    # Before they are unpacked: a text unpacks into letters.
    if args is not None and not isinstance(args, (list, tuple)):
        raise TypeError(f"task args must be a list or tuple, not {type(args).__name__}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(
            f"task keyword arguments must be a mapping, not {type(kwargs).__name__}"
        )
