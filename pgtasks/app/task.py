"""Tasks: functions that can be sent, and the classes behind them."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar

from pgtasks._state import TaskStack, _task_stack, current_app
from pgtasks.app import outcome, publish, trace
from pgtasks.app import retry as retrying
from pgtasks.app.annotations import resolve_all as resolve_all_annotations
from pgtasks.app.autoretry import Backoff
from pgtasks.app.context import Context
from pgtasks.app.registry import _unpickle_task_v2
from pgtasks.canvas import Signature, signature
from pgtasks.exceptions import (
    Cancel,
    CDeprecationWarning,
    Discard,
    MaxRetriesExceededError,
    Retry,
    Snooze,
)
from pgtasks.result import EagerResult, ResultSet, denied_join_result
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.functional import arity_greater, maybe_list
from pgtasks.utils.ids import time_ordered_uuid as uuid
from pgtasks.utils.nodenames import gethostname

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from pgtasks.result import AsyncResult

__all__ = ["Context", "Task"]

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS = (
    "queue", "routing_key", "exchange", "priority", "expires", "serializer",
    "delivery_mode", "compression", "time_limit", "soft_time_limit",
    "immediate", "mandatory",
)  # fmt: skip

_ROUTING = (
    "queue",
    "exchange",
    "exchange_type",
    "routing_key",
    "delivery_mode",
    "priority",
)

_RATE = re.compile(r"\s*\d+(\.\d+)?\s*(/\s*[smh]\s*)?")


class _BoundApp:
    """``Task.app``: the app that the class belongs to, bound when first asked for."""

    def __get__(self, instance: Any, owner: type[Task[..., Any]]) -> Any:
        return owner._get_app()

    def __set__(self, instance: Task[..., Any], app: Any) -> None:
        type(instance).bind(app)


class _OperationalError:
    """``Task.OperationalError``: kombu's class, imported when somebody catches it."""

    def __get__(self, instance: Any, owner: Any) -> type[Exception]:
        from pgtasks.exceptions import OperationalError

        return OperationalError  # type: ignore[no-any-return]


class Task(Generic[P, R]):
    """What ``@app.task`` makes of a function, and what class-based tasks inherit from.

    Calling it runs the function; `delay` sends it to a worker. Whatever the decorator is
    given as an option becomes an attribute, also names that mean nothing to us.

    Attributes that are None take their setting when the task is bound to its app.
    """

    __trace__: Any = None
    __v2_compat__ = False

    MaxRetriesExceededError: ClassVar[type[MaxRetriesExceededError]] = (
        MaxRetriesExceededError
    )
    OperationalError: ClassVar[Any] = _OperationalError()

    #: Celery's names of the parts of its worker; kept for those who read them.
    Strategy: Any = "celery.worker.strategy:default"
    Request: Any = "celery.worker.request:Request"

    _app: Any = None
    app: Any = _BoundApp()

    #: Name, by which the worker finds it.
    name: Any = None
    #: Check the arguments when the task is sent; ``app.strict_typing`` by default.
    typing: bool | None = None
    #: How often `retry` may be called; None for ever.
    max_retries: int | None = 3
    #: Seconds that `retry` waits unless it is told.
    default_retry_delay: float = 3 * 60
    #: Runs before an exception ends the job; None leaves retries to `retry` and
    #: ``autoretry_for``, so that an exception ends it at once, as in Celery.
    max_attempts: int | None = None
    #: Seconds between those runs, or a function of the attempt's number; Oban's by default.
    backoff: Backoff | None = None
    #: ``"100/m"``, ``"2/s"``, a number per second, or None.
    rate_limit: Any = None
    #: Keep no result.
    ignore_result: Any = None
    #: Remember what the task sends, for ``result.children``.
    trail: bool = True
    #: Let monitors see events of this task.
    send_events: bool = True
    #: Keep the exception even where results are ignored.
    store_errors_even_if_ignored: Any = None
    #: Store results of eager runs.
    store_eager_result: Any = None
    #: Name of the serializer of the arguments.
    serializer: Any = None
    #: Hard limit in seconds: the process that runs the task is killed.
    time_limit: Any = None
    #: Soft limit in seconds: `SoftTimeLimitExceeded` is raised in the task.
    soft_time_limit: Any = None
    #: Show STARTED while it runs.
    track_started: Any = None
    #: The job may run again if its worker is lost.
    acks_late: Any = None
    acks_on_failure_or_timeout: Any = None
    acks_on_failure: Any = None
    acks_on_timeout: Any = None
    reject_on_worker_lost: Any = None
    retry_on_worker_lost: Any = None
    #: Exceptions that are expected: logged without a traceback.
    throws: tuple[type[BaseException], ...] = ()
    #: Seconds, or a date, after which it must not start.
    expires: Any = None
    #: 0 runs first, unless the settings turn it round.
    priority: Any = None
    #: Longest repr of the result in logs.
    resultrepr_maxsize: int = 1024

    #: Requests of the runs of this task in this context, the current one on top.
    request_stack: Any = TaskStack("pgtasks.requests")

    abstract = True

    _default_request: Context | None = None
    _exec_options: dict[str, Any] | None = None
    _backend: Any = None
    _dump_pydantic_arguments: Any = None
    __bound__ = False

    from_config: tuple[tuple[str, str], ...] = (
        ("serializer", "task_serializer"),
        ("rate_limit", "task_default_rate_limit"),
        ("priority", "task_default_priority"),
        ("time_limit", "task_time_limit"),
        ("soft_time_limit", "task_soft_time_limit"),
        ("track_started", "task_track_started"),
        ("acks_late", "task_acks_late"),
        ("acks_on_failure_or_timeout", "task_acks_on_failure_or_timeout"),
        ("acks_on_failure", "task_acks_on_failure"),
        ("acks_on_timeout", "task_acks_on_timeout"),
        ("reject_on_worker_lost", "task_reject_on_worker_lost"),
        ("retry_on_worker_lost", "task_retry_on_worker_lost"),
        ("ignore_result", "task_ignore_result"),
        ("store_eager_result", "task_store_eager_result"),
        ("store_errors_even_if_ignored", "task_store_errors_even_if_ignored"),
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Not when it is bound: another thread may have found the task already.
        cls.request_stack = TaskStack(f"pgtasks.requests[{cls.__name__}]")

    # ── belonging to an app ─────────────────────────────────────────────────────────────

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Make the class a task of ``app``: settings, annotations, checks."""
        was_bound, cls.__bound__ = cls.__bound__, True
        cls._app = app
        conf = app.conf
        cls._exec_options = None

        if not was_bound:
            for name in _ROUTING:
                if name in cls.__dict__:
                    _warn_of_routing_attribute(name)
        if cls.typing is None:
            cls.typing = app.strict_typing
        for attribute, setting in cls.from_config:
            if getattr(cls, attribute, None) is None:
                setattr(cls, attribute, conf[setting])
        both = cls.acks_on_failure_or_timeout
        if cls.acks_on_failure is None:
            cls.acks_on_failure = True if both is None else both
        if cls.acks_on_timeout is None:
            cls.acks_on_timeout = True if both is None else both
        cls._check_options()
        backoff = cls.__dict__.get("backoff")
        if inspect.isfunction(backoff) and not arity_greater(backoff, 1):
            # An option of the decorator, not a method of a class.
            cls.backoff = staticmethod(backoff)

        if not was_bound:
            cls.annotate()
        cls.on_bound(app)
        return app

    @classmethod
    def _check_options(cls) -> None:
        if cls.max_retries is not None and cls.max_retries < 0:
            raise ValueError(
                f"max_retries={cls.max_retries!r} of task {cls.name!r}: it must be 0 or "
                f"more; None retries for ever."
            )
        if cls.max_attempts is not None and cls.max_attempts < 1:
            raise ValueError(
                f"max_attempts={cls.max_attempts!r} of task {cls.name!r}: it counts the "
                f"first run too, so it must be 1 or more; None leaves it to max_retries."
            )
        limit = cls.rate_limit
        if isinstance(limit, str) and not _RATE.fullmatch(limit):
            raise ValueError(
                f"rate_limit={limit!r} of task {cls.name!r}: write a number and a unit, "
                f"for instance '10/s', '100/m' or '1000/h'."
            )

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Do more when the class is bound to an app; for subclasses."""

    @classmethod
    def _get_app(cls) -> Any:
        if cls._app is None:
            cls._app = current_app
        if not cls.__bound__:
            # Assigning Task.app on a class replaces the descriptor: bind on first use.
            cls.bind(cls._app)
        return cls._app

    @classmethod
    def annotate(cls) -> None:
        """Apply ``task_annotations``: attributes; ``@name`` decorates a method."""
        for found in resolve_all_annotations(cls.app.annotations, cls):
            for key, value in found.items():
                if key.startswith("@"):
                    cls.add_around(key[1:], value)
                else:
                    setattr(cls, key, value)

    @classmethod
    def add_around(cls, attr: str, around: Callable[[Any], Any]) -> None:
        """Decorate the method ``attr``, once, however often this is called."""
        original = getattr(cls, attr)
        original = getattr(original, "__wrapped__", None) or original
        method = around(original)
        method.__wrapped__ = original
        setattr(cls, attr, method)

    # ── running ─────────────────────────────────────────────────────────────────────────

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here, as a function; `request` says ``called_directly``."""
        request = self.request_stack.top
        if request is not None and not request._entered:
            # A __call__ of the user's, run by the worker, that calls super(): it is the
            # worker's request that goes on, not a new one.
            request._entered = True
            return self.run(*args, **kwargs)
        _task_stack.push(self)
        self.push_request(args=args, kwargs=kwargs)
        try:
            return self.run(*args, **kwargs)
        finally:
            self.pop_request()
            _task_stack.pop()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The body of the task."""
        raise NotImplementedError("Tasks must define the run method.")

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        logfile: str | None = None,
        loglevel: int | None = None,
        headers: dict[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here, as a worker would: with its request, handlers and retries.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            link: Called with the result.
            link_error: Called when it fails.
            task_id: Its id; a new one by default.
            retries: How often it has been retried.
            throw: Raise its exception here; ``task_eager_propagates`` by default.
            logfile: Put into the request.
            loglevel: Put into the request.
            headers: Put into the request.
            **options: Options of `apply_async`; few of them mean anything here.
        """
        app = self._get_app()
        task_id = task_id or uuid()
        retries = retries or 0
        if throw is None:
            throw = app.conf.task_eager_propagates
        parent = _task_stack.top
        parent_request = parent.request if parent else None
        # The instance, where this is called on a class.
        task = app._tasks[self.name]
        limits = [self.time_limit, self.soft_time_limit]
        request = {
            "id": task_id,
            "task": self.name,
            "parent_id": parent_request.id if parent_request else None,
            "root_id": (parent_request.root_id if parent_request else None) or task_id,
            "retries": retries,
            "attempt": retries + 1,
            "max_attempts": self.max_attempts,
            "is_eager": True,
            "logfile": logfile,
            "loglevel": loglevel or 0,
            "hostname": gethostname(),
            "callbacks": maybe_list(link),
            "errbacks": maybe_list(link_error),
            "headers": headers,
            "timelimit": None if limits == [None, None] else limits,
            "ignore_result": options.get("ignore_result", self.ignore_result),
            "delivery_info": {
                "is_eager": True,
                "exchange": options.get("exchange"),
                "routing_key": options.get("routing_key"),
                "priority": options.get("priority"),
            },
        }
        if "stamped_headers" in options:
            stamped = maybe_list(options["stamped_headers"])
            request["stamped_headers"] = stamped
            request["stamps"] = {key: maybe_list(options.get(key, [])) for key in stamped}

        tracer = trace.build_tracer(
            task.name, task, eager=True, propagate=throw, app=self._get_app()
        )
        traced = tracer(task_id, args or (), kwargs or {}, request)
        returned, text = traced.retval, None
        if isinstance(returned, ExceptionInfo):
            returned, text = returned.exception, returned.traceback
        if isinstance(returned, Retry) and returned.sig is not None:
            again: EagerResult[R] = returned.sig.apply(retries=retries + 1)
            return again
        state = trace.SUCCESS if traced.info is None else traced.info.state
        return EagerResult(task_id, returned, state, traceback=text, name=self.name)

    # ── sending ─────────────────────────────────────────────────────────────────────────

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
                UTC), ``expires`` (seconds or a date), ``queue``, ``priority``,
                ``headers``, ``serializer``, ``compression``, ``ignore_result``,
                ``time_limit``, ``soft_time_limit``, ``max_attempts``, ``retry``,
                ``retry_policy``, ``tags``, ``meta``, ``add_to_parent``, ``argsrepr`` and
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
        app = self._get_app()
        if app.conf.task_always_eager:
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
        app = self._get_app()
        if app.conf.task_always_eager:
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

    def delay_many(self, calls: Iterable[Any], *, atomic: bool = False) -> ResultSet:
        """Send the task once for each of ``calls``, thousands in one statement.

        Args:
            calls: For each job its positional arguments (a tuple or list), or its keyword
                arguments (a dict), or both (a `Signature`: ``add.s(2, y=2)``).
            atomic: All of them or none, in one transaction.

        Returns:
            The results, in the order of ``calls``; ``.get()`` waits for all of them.
        """
        return self.apply_async_many(calls, atomic=atomic)

    def apply_async_many(
        self, calls: Iterable[Any], *, atomic: bool = False, **options: Any
    ) -> ResultSet:
        """`delay_many` with options, which hold for every job."""
        app = self._get_app()
        prepared = []
        for call in calls:
            args, kwargs, more = publish.arguments_of(call)
            args, kwargs, shadow, merged = self._prepare(
                args, kwargs, None, {**options, **more} if more else options
            )
            if shadow:
                merged["shadow"] = shadow
            prepared.append((args, kwargs, merged))
        if app.conf.task_always_eager:
            results: list[Any] = [
                self._apply_eagerly(
                    args, kwargs, each.pop("task_id", None), None, None, each
                )
                for args, kwargs, each in prepared
            ]
        else:
            results = publish.send_many(
                app,
                [(self.name, args, kwargs, each) for args, kwargs, each in prepared],
                task_type=self,
                atomic=atomic,
            )
        return ResultSet(results, app=app)

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
        if self.typing:
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
        args, kwargs = publish.round_trip(
            self._get_app(), args, kwargs, options.get("serializer")
        )
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
        result: AsyncResult[R] = self._get_app().AsyncResult(
            task_id, backend=self.backend, task_name=self.name, **kwargs
        )
        return result

    # ── signatures ──────────────────────────────────────────────────────────────────────

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

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """`s` that takes no further arguments, such as the result of a parent."""
        return self.signature(args, kwargs, immutable=True)

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
            "ignore_result": trace.get_actual_ignore_result(self, request),
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

    # ── what a running task may say ─────────────────────────────────────────────────────

    def retry(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | type[BaseException] | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """End this run and have the same job run again later.

        Raises an exception to say so; written as ``raise self.retry(…)``, so that the
        reader sees it. The job keeps its id, its queue and whatever waits for it.

        Args:
            args: Other positional arguments for the next run.
            kwargs: Other keyword arguments for the next run.
            exc: What failed; raised once there is no retry left.
            throw: False returns the exception and lets the run go on to its own end.
            eta: When to run again.
            countdown: In how many seconds; ``default_retry_delay`` unless told.
            max_retries: How many retries this run allows, instead of the task's number.
            **options: Other options of `apply_async`.

        Raises:
            Retry: Always, unless ``throw`` is false or no retry is left.
            MaxRetriesExceededError: No retry is left, and there is no ``exc``.
        """
        return retrying.retry(
            self, args, kwargs, exc, throw, eta, countdown, max_retries, options
        )

    def snooze(self, delay: float | timedelta) -> NoReturn:
        """End this run and have the job run again in ``delay`` seconds.

        Neither a failure nor a retry: it costs no attempt and calls no handler.
        """
        raise Snooze(delay)

    def discard(self, reason: Any = None) -> NoReturn:
        """End this job as failed, and have it not retried whatever the task's settings."""
        raise Discard(reason)

    def cancel(self, reason: Any = None) -> NoReturn:
        """End this job as cancelled: not failed, not retried, shown as REVOKED."""
        raise Cancel(reason)

    def update_state(
        self,
        task_id: str | None = None,
        state: str | None = None,
        meta: Any = None,
        **kwargs: Any,
    ) -> None:
        """Show a state of the task's own while it runs: ``PROGRESS`` and how far it is.

        Args:
            task_id: The task; the one that runs by default.
            state: Any word.
            meta: What ``AsyncResult.info`` shows.
            **kwargs: Passed on to the result backend.
        """
        if task_id is None:
            task_id = self.request.id
        outcome.note_progress(task_id, state, meta)
        self.backend.store_result(task_id, meta, state, request=self.request, **kwargs)

    def send_event(
        self,
        type_: str,
        retry: bool = True,
        retry_policy: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """Send an event to monitors, where there are any."""
        try:
            events = self.app.events
        except (AttributeError, ImportError):
            return None
        request = self.request
        if retry_policy is None:
            retry_policy = self.app.conf.task_publish_retry_policy
        with events.default_dispatcher(hostname=request.hostname) as dispatcher:
            return dispatcher.send(
                type_, uuid=request.id, retry=retry, retry_policy=retry_policy, **fields
            )

    # ── handlers, for subclasses ────────────────────────────────────────────────────────

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the body; raising fails the task."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called after the body has returned ``retval``."""

    def on_retry(
        self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo
    ) -> None:
        """Called when the task is going to run again because of ``exc``."""

    def on_failure(
        self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo
    ) -> None:
        """Called when the task has failed with ``exc``."""

    def after_return(
        self,
        status: str,
        retval: Any,
        task_id: str,
        args: Any,
        kwargs: Any,
        einfo: ExceptionInfo | None,
    ) -> None:
        """Called at the end of a run that succeeded or failed; not when it is retried."""

    # ── the request ─────────────────────────────────────────────────────────────────────

    @property
    def request(self) -> Context:
        """What is known of the run that is under way here."""
        top = self.request_stack.top
        if top is not None:
            return top  # type: ignore[no-any-return]
        # Nothing runs, yet some look for a request all the same.
        if self._default_request is None:
            self._default_request = Context()
        return self._default_request

    def _get_request(self) -> Context:
        return self.request

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request that inherits from the current one; `pop_request` must follow."""
        self.request_stack.push(Context(*args, **{**self.request.__dict__, **kwargs}))

    def pop_request(self) -> None:
        """End the request that `push_request` began."""
        self.request_stack.pop()

    def add_trail(self, result: Any) -> Any:
        """Remember ``result`` as one of a task that this one has sent."""
        if self.trail:
            self.request.children.append(result)
        return result

    # ── being an object ─────────────────────────────────────────────────────────────────

    @property
    def backend(self) -> Any:
        """Where results of this task are kept."""
        backend = self._backend
        return self.app.backend if backend is None else backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    def start_strategy(self, app: Any, consumer: Any, **kwargs: Any) -> Any:
        """Celery's hook into its consumer; ours asks nobody."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: the receiver takes the task from its own registry, after importing the
        # module if that is where it is defined.
        module = type(self).__module__
        return (
            _unpickle_task_v2,
            (self.name, module if module in sys.modules else None),
            None,
        )

    def __repr__(self) -> str:
        return _reprtask(self, R_INSTANCE)

    @property
    def __name__(self) -> Any:
        return type(self).__name__


BaseTask = Task

R_BOUND_TASK = "<class {0.__name__} of {app}{flags}>"
R_UNBOUND_TASK = "<unbound {0.__name__}{flags}>"
R_INSTANCE = "<@task: {0.name} of {app}{flags}>"


def _reprtask(task: Any, fmt: str | None = None, flags: Iterable[str] | None = None) -> str:
    words = [*(flags or ()), *(["v2 compatible"] if task.__v2_compat__ else ())]
    app = task._app
    fmt = fmt or (R_BOUND_TASK if app else R_UNBOUND_TASK)
    return fmt.format(
        task,
        flags=f" ({', '.join(words)})" if words else "",
        app=f"{app.main or '__main__'} at {id(app):#x}" if app else None,
    )


def _warn_of_routing_attribute(name: str) -> None:
    import warnings

    warnings.warn(
        f"The {name!r} task attribute is deprecated and is going to have no effect in "
        f"Celery 6. Use the task_routes setting, or pass it to apply_async().",
        CDeprecationWarning,
        stacklevel=4,
    )


def _check_containers(args: Any, kwargs: Any) -> None:
    # Before they are unpacked: a text unpacks into letters.
    if args is not None and not isinstance(args, (list, tuple)):
        raise TypeError(f"task args must be a list or tuple, not {type(args).__name__}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(
            f"task keyword arguments must be a mapping, not {type(kwargs).__name__}"
        )
