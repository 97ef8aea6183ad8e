"""Fixtures for pytest: ``pytest_plugins = ["pgtasks.testing.fixtures"]`` in a conftest.

Override the small ones to say which application a test is about, and which connection
its transaction is on::

    @pytest.fixture
    def pgtasks_app():
        return shop.app
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["pgtasks_app", "pgtasks_connection", "pgtasks_inline", "pgtasks_testing"]

# Imports wait until a fixture runs, as those of pgtasks.contrib.pytest do.


@pytest.fixture
def pgtasks_app() -> Any:
    """The application under test; the current one."""
    from pgtasks._state import get_current_app

    return get_current_app()


@pytest.fixture
def pgtasks_connection() -> Any:
    """The connection that the test will roll back, if jobs are inserted on it; None."""
    return None


@pytest.fixture
def pgtasks_testing(pgtasks_app: Any, pgtasks_connection: Any) -> Iterator[Any]:
    """A `pgtasks.testing.Testing`, in whose test jobs are stored and nothing runs them.

    With ``memory://``, jobs that other tests have left are gone.
    """
    from pgtasks.app.connection import keeps_jobs_in_memory
    from pgtasks.app.memory import queue_of
    from pgtasks.testing import Testing, mode

    testing = Testing(pgtasks_app, pgtasks_connection)
    if keeps_jobs_in_memory(testing.app):
        queue_of(testing.app).purge()
    with mode(testing.app, "manual"):
        yield testing


@pytest.fixture
def pgtasks_inline(pgtasks_app: Any) -> Iterator[Any]:
    """The application under test, in whose test jobs run at once when they are sent."""
    from pgtasks.testing import mode

    with mode(pgtasks_app, "inline"):
        yield pgtasks_app
