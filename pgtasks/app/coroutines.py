"""Runs the bodies of ``async def`` tasks, for callers that are coroutines and for others.

How a job is run is written once, as a generator: it yields the coroutine of a body, and goes
on with what came of it. `drive` runs such steps where nobody is async, `adrive` on an event
loop, where hundreds of them wait side by side.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent import futures
from contextvars import ContextVar, copy_context
from types import coroutine
from typing import Any, TypeAlias, TypeVar

from pgtasks.app.interruption import Interruption
from pgtasks.exceptions import SoftTimeLimitExceeded, TaskTimeout

__all__ = [
    "Body", "Cancelled", "Steps", "adrive", "drive", "home", "interrupt", "mark",
    "run", "steps_of",
]  # fmt: skip

T = TypeVar("T")

#: What the main thread runs, where the handlers of signals look for it.
_body: Body | None = None

#: The threads in which coroutines run that greenlets wait for.
_threads: Any = None

MOST_THREADS = 100
"""Coroutines that greenlets may wait for at a time; the pool for more of them is asyncio's."""

#: What runs something whose body may be a coroutine.
Steps: TypeAlias = Generator[Coroutine[Any, Any, Any], Any, T]

#: Runs a coroutine on the loop of the worker that this thread belongs to.
home: ContextVar[Callable[[Coroutine[Any, Any, Any]], Any] | None] = ContextVar(
    "pgtasks.home", default=None
)


def drive(steps: Steps[T]) -> T:
    """Run ``steps`` to their end, and a coroutine among them on a loop of its own."""
    try:
        body = next(steps)
        while True:
            try:
                value = run(body)
            except BaseException as error:
                body = steps.throw(error)
            else:
                body = steps.send(value)
    except StopIteration as end:
        answer: T = end.value
        return answer
    except RuntimeError as error:
        raise _as_raised(error)


async def adrive(steps: Steps[T], body: Body) -> T:
    """Run ``steps`` to their end on the loop that runs here.

    Args:
        steps: What to run.
        body: By which its coroutine can be interrupted.
    """
    try:
        coroutine = next(steps)
        while True:
            try:
                value = await body.run(coroutine)
            except Interruption as error:
                coroutine = steps.throw(error)
            except asyncio.CancelledError as error:
                coroutine = steps.throw(_as_failure(error))
            except BaseException as error:
                coroutine = steps.throw(error)
            else:
                coroutine = steps.send(value)
    except StopIteration as end:
        answer: T = end.value
        return answer


def mark(tracer: Any, steps: Any) -> None:
    """Let `steps_of` find the steps of a tracer."""
    tracer.steps, steps.tracer = steps, tracer


def steps_of(tracer: Any) -> Callable[..., Steps[Any]] | None:
    """The steps of a tracer; None if somebody has put another one around it."""
    steps = getattr(tracer, "steps", None)
    # functools.wraps copies attributes, so that a wrapper has its tracer's steps as well.
    return steps if steps is not None and steps.tracer is tracer else None


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Answer what ``coroutine`` returns, having waited for it here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        # Called eagerly by a coroutine, whose loop this thread cannot enter a second time,
        # and which must not be waited for: it waits for us.
        context = copy_context()
        context.run(home.set, None)
        with futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(context.run, _run_here, coroutine, Body()).result()
    runner = home.get()
    if runner is not None:
        return runner(coroutine)
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return _run_for_greenlet(coroutine)
    return _run_here(coroutine, Body())


def _run_here(coroutine: Coroutine[Any, Any, Any], body: Body) -> Any:
    global _body
    signalled = threading.current_thread() is threading.main_thread()
    before, _body = _body, body if signalled else _body
    try:
        value, interruption = asyncio.run(_main(body, coroutine))
    except asyncio.CancelledError as error:
        raise _as_failure(error) from error
    finally:
        if signalled:
            _body = before
    if interruption is not None:
        raise interruption
    return value


async def _main(
    body: Body, coroutine: Coroutine[Any, Any, Any]
) -> tuple[Any, Interruption | None]:
    try:
        return await body.run(coroutine), None
    except Interruption as error:
        # For asyncio it would be a cancellation like any other.
        return None, error


def _run_for_greenlet(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it in a thread: the greenlets of one thread cannot each have a loop."""
    global _threads
    if _threads is None:
        from gevent.threadpool import ThreadPool

        # Not the hub's own, which looks up the addresses of servers.
        _threads = ThreadPool(MOST_THREADS)
    body = Body()
    result = _threads.spawn(copy_context().run, _run_here, coroutine, body)
    while True:
        try:
            return result.get()
        except BaseException as error:
            # The coroutine's own, or what interrupts this greenlet, and so the coroutine.
            if result.ready() or not body.interrupt_elsewhere(error):
                raise


# ── interrupting ────────────────────────────────────────────────────────────────────────


class Cancelled(Interruption, asyncio.CancelledError):
    """What the coroutine of a task gets when its run is ended for good."""


class _SoftLimit(SoftTimeLimitExceeded, asyncio.CancelledError):
    """A soft limit that groups of coroutines, too, take for a reason to stop."""


class _Timeout(TaskTimeout, asyncio.CancelledError):
    """The same of a task's ``timeout``."""


class Body:
    """The coroutine of a task, which can be given an exception where it waits."""

    __slots__ = ("_given", "_loop", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._given: BaseException | None = None

    @property
    def computes(self) -> bool:
        """Whether it is what the loop runs at this moment, and so does not wait."""
        return self._task is not None and asyncio.current_task(self._loop) is self._task

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it, in the asyncio task that calls this."""
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        try:
            return await self._steps(coroutine)
        except (_SoftLimit, _Timeout) as error:
            # A cancellation for what runs inside, and outside what it is called.
            plain = TaskTimeout if isinstance(error, TaskTimeout) else SoftTimeLimitExceeded
            raise plain(*error.args).with_traceback(error.__traceback__) from None
        finally:
            self._task = None

    @coroutine
    def _steps(self, body: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = body.send(value) if error is None else body.throw(error)
            except StopIteration as end:
                return end.value
            value = error = None
            try:
                value = yield awaited
            except asyncio.CancelledError as cancelled:
                error, self._given = self._given or cancelled, None
                if isinstance(error, SoftTimeLimitExceeded) and self._task is not None:
                    # It may go on after that, and wait for something else.
                    getattr(self._task, "uncancel", int)()
            except GeneratorExit:
                body.close()
                raise
            except BaseException as thrown:
                error = thrown

    def interrupt(self, error: BaseException) -> bool:
        """Raise ``error`` where it waits. To be called in the thread of its loop.

        Returns:
            False if it does not run.
        """
        if self._task is None:
            return False
        if isinstance(error, TaskTimeout):
            error = _Timeout(*error.args)
        elif isinstance(error, SoftTimeLimitExceeded):
            error = _SoftLimit(*error.args)
        if not isinstance(self._given, Interruption):
            self._given = error
        self._task.cancel()
        return True

    def interrupt_soon(self, error: BaseException) -> bool:
        """`interrupt`, for a signal's handler; False if it does not wait."""
        return not self.computes and self.interrupt_elsewhere(error)

    def interrupt_elsewhere(self, error: BaseException) -> bool:
        """`interrupt`, from another thread than that of its loop."""
        if self._task is None or self._loop is None:
            return False
        if isinstance(error, Interruption):
            error = Cancelled()
        self._loop.call_soon_threadsafe(self.interrupt, error)
        return True


def interrupt(error: BaseException) -> bool:
    """Raise ``error`` in the coroutine that waits in the main thread, by a signal's handler.

    Returns:
        False if there is none: it can be raised on the spot.
    """
    return _body is not None and _body.interrupt_soon(error)


def _as_failure(error: asyncio.CancelledError) -> Exception:
    """A cancellation that nobody has asked us for: the task has let something cancel it."""
    failure = futures.CancelledError(
        *(error.args or ("Something that the task waited for was cancelled.",))
    )
    failure.__cause__ = error
    return failure


def _as_raised(error: RuntimeError) -> BaseException:
    """Of a generator that let a StopIteration through, that; else the error itself."""
    cause = error.__cause__
    if isinstance(cause, StopIteration) and str(error) == "generator raised StopIteration":
        return cause
    return error
