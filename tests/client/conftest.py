"""Applications that keep everything in the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgtasks import Celery


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    """Makes such applications, and closes them."""
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
    """One of them."""
    return make_app()
