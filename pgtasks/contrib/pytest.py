"""Fixtures for pytest, under Celery's names: an application and a worker per test.

Override the small ones in ``conftest.py`` to configure the large ones::

    @pytest.fixture(scope="session")
    def celery_config():
        return {"task_always_eager": True}
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = [
    "celery_app",
    "celery_class_tasks",
    "celery_config",
    "celery_enable_logging",
    "celery_includes",
    "celery_parameters",
    "celery_session_app",
    "celery_session_worker",
    "celery_worker",
    "celery_worker_parameters",
    "celery_worker_pool",
    "depends_on_current_app",
    "use_celery_app_trap",
]

#: Set in the environment, it leaves workers out, to look at a test without them.
NO_WORKER = os.environ.get("NO_WORKER")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker ``celery``, whose arguments are settings of a test's app."""
    config.addinivalue_line(
        "markers", "celery(**overrides): settings of the app in this test"
    )


# ── what to override ────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings of the test application."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Arguments of the test application, as for `Celery`."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Arguments of the worker, such as ``queues`` and ``concurrency``."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_pool() -> Any:
    """The worker's pool; ``solo`` runs jobs in the thread of the worker."""
    return "solo"


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Modules that the worker imports, for the tasks in them."""
    return ()


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Class-based tasks to register with the application of the session."""
    return []


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Whether the application sets up logging, which tests rather leave to pytest."""
    return False


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Whether to use the current app is an error, rather than what it was before."""
    return False


# ── what to use ─────────────────────────────────────────────────────────────


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Any]:
    """An application for one test."""
    settings = {**celery_config, **_overrides(request)}
    with _create_app(
        celery_enable_logging, use_celery_app_trap, celery_parameters, **settings
    ) as app:
        yield app


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Any]:
    """An application for all tests, and the current one unless that is trapped."""
    settings = {**celery_config, **_overrides(request)}
    with _create_app(
        celery_enable_logging, use_celery_app_trap, celery_parameters, **settings
    ) as app:
        if not use_celery_app_trap:
            app.set_default()
            app.set_current()
        yield app


@pytest.fixture
def depends_on_current_app(celery_app: Any) -> None:
    """Make the test's application the current one."""
    celery_app.set_current()


@pytest.fixture
def celery_worker(
    request: pytest.FixtureRequest,
    celery_app: Any,
    celery_includes: Sequence[str],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[Any]:
    """A worker for one test, in a thread of this process."""
    with _start_worker(
        celery_app, celery_includes, (), celery_worker_pool, celery_worker_parameters
    ) as worker:
        yield worker


@pytest.fixture(scope="session")
def celery_session_worker(
    request: pytest.FixtureRequest,
    celery_session_app: Any,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: Any,
    celery_worker_parameters: Mapping[str, Any],
) -> Iterator[Any]:
    """A worker for all tests, in a thread of this process."""
    with _start_worker(
        celery_session_app,
        celery_includes,
        celery_class_tasks,
        celery_worker_pool,
        celery_worker_parameters,
    ) as worker:
        yield worker


# ── behind them ─────────────────────────────────────────────────────────────

# Imports wait until a fixture runs: the plugin is loaded into every pytest of an
# environment that has pgtasks, and most have nothing to do with it.


@contextmanager
def _create_app(
    enable_logging: bool = False,
    use_trap: bool = False,
    parameters: Mapping[str, Any] | None = None,
    **config: Any,
) -> Iterator[Any]:
    from pgtasks.contrib.testing.app import TestApp, setup_default_app

    app = TestApp(
        set_as_current=False,
        enable_logging=enable_logging,
        config=config,
        **(parameters or {}),
    )
    with setup_default_app(app, use_trap=use_trap):
        yield app


@contextmanager
def _start_worker(
    app: Any,
    includes: Sequence[str],
    class_tasks: Sequence[Any],
    pool: Any,
    parameters: Mapping[str, Any],
) -> Iterator[Any]:
    if NO_WORKER:
        yield None
        return
    from pgtasks.contrib.testing.worker import start_worker

    for module in includes:
        app.loader.import_task_module(module)
    for task in class_tasks:
        app.register_task(task)
    with start_worker(app, pool=pool, **parameters) as running:
        yield running


def _overrides(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    marker = request.node.get_closest_marker("celery")
    return marker.kwargs if marker else {}
