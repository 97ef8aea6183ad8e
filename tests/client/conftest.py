"""Applications that leave nothing behind."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgtasks import Celery, _state
from pgtasks.app import settings


@pytest.fixture(autouse=True)
def _state_as_it_was() -> Iterator[None]:
    """What is current, shared and known is what it was before the test."""
    default, current = _state.default_app, _state._tls.current_app
    finalizers, apps = set(_state._on_app_finalizers), list(_state._apps)
    told = set(settings._told)
    yield
    _state.default_app, _state._tls.current_app = default, current
    _state._on_app_finalizers = finalizers
    _state._apps = weakref.WeakSet(apps)
    settings._told = told


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    """Makes applications that keep everything in the process, and closes them."""
    made = []

    def make(main: str | None = "tests", **kwargs: Any) -> Celery:
        given: dict[str, Any] = {
            "broker": "memory://",
            "backend": "cache+memory://",
            "set_as_current": False,
        }
        app = Celery(main, **{**given, **kwargs})
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    """Such an application."""
    return make_app()
