"""Coroutines as tasks, where nobody has a loop for them; and what is run in steps."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

from pgtasks import current_task
from pgtasks.app import coroutines
from pgtasks.app.coroutines import Body, Cancelled
from pgtasks.exceptions import SoftTimeLimitExceeded, TaskTimeout


def test_a_coroutine_runs_eagerly_also_within_another(memory_app: Any) -> None:
    @memory_app.task(bind=True)
    async def inner(self: Any, x: int) -> tuple[int, bool]:
        await asyncio.sleep(0)
        return x + 1, self.request.id == current_task.request.id

    @memory_app.task
    async def outer(x: int) -> Any:
        return inner.apply([x]).get(disable_sync_subtasks=False)

    assert tuple(outer.apply([1]).get()) == (2, True)
    assert tuple(asyncio.run(outer.run(2))) == (3, True)


def test_what_cancels_itself_fails(memory_app: Any) -> None:
    @memory_app.task
    async def hasty() -> None:
        part = asyncio.ensure_future(asyncio.sleep(60))
        part.cancel()
        await part

    result = hasty.apply()

    assert result.state == "FAILURE"
    assert isinstance(result.result, CancelledError)


def test_a_task_may_raise_what_generators_end_with(memory_app: Any) -> None:
    @memory_app.task
    def first_of(items: list[int]) -> int:
        return next(iter(items))

    assert first_of.apply([[]]).state == "FAILURE"
    with pytest.raises(StopIteration):
        first_of.apply([[]], throw=True)


def test_steps_of_a_tracer_are_not_those_of_what_is_put_around_it() -> None:
    def steps() -> Any:
        yield

    def tracer() -> None:
        pass

    coroutines.mark(tracer, steps)

    assert coroutines.steps_of(tracer) is steps
    assert coroutines.steps_of(functools.wraps(tracer)(lambda: None)) is None
    assert coroutines.steps_of(lambda: None) is None


# ── interrupting ────────────────────────────────────────────────────────────────────────


def interrupted(work: Any, *errors: BaseException) -> Any:
    """Run ``work`` and give it these exceptions, one after the other, where it waits."""

    async def main() -> Any:
        body = Body()
        assert not body.interrupt(Cancelled())
        running = asyncio.ensure_future(body.run(work()))
        for error in errors:
            for _ in range(5):
                await asyncio.sleep(0)
            assert body.interrupt(error)
        try:
            return await running
        finally:
            assert not body.interrupt(Cancelled())

    return asyncio.run(main())


def test_a_soft_limit_is_caught_by_its_name_and_the_task_goes_on() -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            async with asyncio.Lock():
                await asyncio.wait_for(asyncio.sleep(0), 10)
            return "in good time"
        return "too late"

    assert interrupted(work, SoftTimeLimitExceeded()) == "in good time"


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), TaskTimeout("too long")])
def test_a_soft_limit_is_a_cancellation_inside_and_none_outside(error: Exception) -> None:
    parts: list[Any] = []

    async def work() -> None:
        parts.extend(asyncio.ensure_future(asyncio.sleep(60)) for _ in range(3))
        try:
            await asyncio.gather(*parts)
        except asyncio.CancelledError:
            parts.append("cancelled")
            raise

    with pytest.raises(type(error)) as caught:
        interrupted(work, error)

    assert type(caught.value) is type(error)
    assert caught.value.args == error.args
    assert parts.pop() == "cancelled"
    assert all(part.cancelled() for part in parts)


def test_what_ends_for_good_overtakes_a_soft_limit() -> None:
    seen: list[str] = []

    async def work() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(60)
            except SoftTimeLimitExceeded:
                seen.append("soft")
        seen.append("it went on")

    with pytest.raises(Cancelled):
        interrupted(work, SoftTimeLimitExceeded(), Cancelled())

    assert seen == ["soft"]


def test_a_signals_handler_leaves_alone_what_computes() -> None:
    """It raises there itself; what waits is reached by the loop."""
    told: list[bool] = []

    async def work() -> str:
        told.append(coroutines.interrupt(SoftTimeLimitExceeded()))
        timer = threading.Timer(0.01, lambda: told.append(body.interrupt_elsewhere(error)))
        timer.start()
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            return "where it waited"
        finally:
            timer.join()
        return "not at all"

    error, body = SoftTimeLimitExceeded(), Body()

    assert coroutines._run_here(work(), body) == "where it waited"
    assert told == [False, True]
    assert not coroutines.interrupt(error)
    assert coroutines._body is None
