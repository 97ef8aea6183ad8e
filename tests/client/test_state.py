from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from pgtasks import _state, current_app, current_task
from pgtasks.app import disable_trace, enable_trace
from pgtasks.app.base import Celery


def in_another_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(function).result()


@pytest.fixture
def stack() -> _state.TaskStack:
    return _state.TaskStack("test")


# ── applications ────────────────────────────────────────────────────────────────────────


def test_the_application_made_last_is_the_current_one(
    make_app: Callable[..., Celery],
) -> None:
    first, second = (
        make_app("first", set_as_current=True),
        make_app("second", set_as_current=True),
    )
    assert current_app == second

    first.set_current()

    assert current_app == first


def test_current_is_said_of_one_thread_only(make_app: Callable[..., Celery]) -> None:
    mine, default = make_app("mine", set_as_current=True), make_app("default")
    default.set_default()

    assert _state.get_current_app() is mine
    assert in_another_thread(_state.get_current_app) is default


def test_without_any_application_there_is_one_after_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr(_state._tls, "current_app", None)

    app = _state.get_current_app()

    assert app.main == "default"
    assert _state.get_current_app() is app


def test_app_or_default_prefers_what_it_is_given(make_app: Callable[..., Celery]) -> None:
    given, current = make_app(), make_app(set_as_current=True)

    assert _state.app_or_default(given) is given
    assert _state.app_or_default() is current
    assert _state.app_or_default(None) is current


def test_falling_back_on_the_current_app_can_be_traced(
    app: Celery, capsys: pytest.CaptureFixture[str]
) -> None:
    app.set_current()
    enable_trace()
    try:
        assert _state.app_or_default(app) is app
        assert capsys.readouterr().out == ""
        assert _state.app_or_default() is app
        assert "USES THE CURRENT APP" in capsys.readouterr().out
    finally:
        disable_trace()


def test_what_is_connected_hears_of_each_application_that_is_finalized(
    make_app: Callable[..., Celery],
) -> None:
    heard: list[Any] = []
    _state.connect_on_app_finalize(heard.append)
    app = make_app()

    app.finalize()
    app.finalize()

    assert heard == [app]


def test_a_closed_application_is_not_active(make_app: Callable[..., Celery]) -> None:
    app = make_app()
    assert app in _state._get_active_apps()

    app.close()

    assert app not in _state._get_active_apps()


# ── tasks ───────────────────────────────────────────────────────────────────────────────


def test_the_stack_has_its_last_item_on_top(stack: _state.TaskStack) -> None:
    assert (stack.top, stack.pop(), len(stack)) == (None, None, 0)

    stack.push("a")
    stack.push("b")

    assert (stack.top, stack.stack, len(stack)) == ("b", ["a", "b"], 2)
    assert (stack.pop(), stack.top) == ("b", "a")


def test_a_thread_has_a_stack_of_its_own(stack: _state.TaskStack) -> None:
    stack.push("mine")

    assert in_another_thread(lambda: stack.top) is None


def test_a_coroutine_sees_the_stack_it_was_started_in_and_keeps_its_own_changes(
    stack: _state.TaskStack,
) -> None:
    seen: dict[str, Any] = {}

    async def run(name: str, other: asyncio.Event, mine: asyncio.Event) -> None:
        stack.push(name)
        mine.set()
        await other.wait()
        seen[name] = stack.stack
        stack.pop()

    async def main() -> None:
        stack.push("outer")
        a, b = asyncio.Event(), asyncio.Event()
        await asyncio.gather(run("a", b, a), run("b", a, b))
        seen["outer"] = stack.stack

    asyncio.run(main())

    assert seen == {"a": ["outer", "a"], "b": ["outer", "b"], "outer": ["outer"]}


def test_a_copied_context_does_not_share_what_follows(stack: _state.TaskStack) -> None:
    stack.push("before")
    context = contextvars.copy_context()
    stack.push("after")

    assert context.run(lambda: stack.stack) == ["before"]


def test_there_is_no_current_task_outside_of_tasks() -> None:
    assert not current_task
    assert _state.get_current_task() is None
    assert _state.get_current_worker_task() is None


def test_the_workers_task_is_the_one_that_was_not_called_as_a_function() -> None:
    outer = SimpleNamespace(request=SimpleNamespace(called_directly=False))
    inner = SimpleNamespace(request=SimpleNamespace(called_directly=True))
    _state.push_current_task(outer)
    _state.push_current_task(inner)
    try:
        assert _state.get_current_task() is inner
        assert _state.get_current_worker_task() is outer
    finally:
        _state.pop_current_task()
        _state.pop_current_task()


def test_whether_joining_blocks_is_a_switch() -> None:
    assert not _state.task_join_will_block()

    _state._set_task_join_will_block(True)
    try:
        assert _state.task_join_will_block()
    finally:
        _state._set_task_join_will_block(False)


# ── strictness, chosen in the environment ───────────────────────────────────────────────


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_falling_back_on_the_current_app_can_be_forbidden() -> None:
    refused = run("from pgtasks import current_app; current_app.main", C_STRICT_APP="1")

    assert refused.returncode == 1
    assert "Pass the app explicitly" in refused.stderr


def test_falling_back_on_the_current_app_can_be_traced_from_the_start() -> None:
    traced = run(
        "from pgtasks.app import app_or_default; app_or_default()", CELERY_TRACE_APP="1"
    )

    assert "USES THE CURRENT APP" in traced.stdout
