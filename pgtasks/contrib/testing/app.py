"""Applications for tests: in memory, quiet, and gone when the test is over."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from pgtasks import _state
from pgtasks.app.base import Celery
from pgtasks.app.log import Logging

__all__ = ["DEFAULT_TEST_CONFIG", "TestApp", "Trap", "UnitLogging", "setup_default_app"]

#: Settings of an application for tests: jobs and results stay in this process.
DEFAULT_TEST_CONFIG: dict[str, Any] = {
    "worker_hijack_root_logger": False,
    "worker_log_color": False,
    "accept_content": {"json"},
    "enable_utc": True,
    "timezone": "UTC",
    "broker_url": "memory://",
    "result_backend": "cache+memory://",
    "broker_heartbeat": 0,
}


class Trap:
    """Stands where the current app would, and refuses to be used.

    It finds the code that falls back on the current app, where it should have
    been given one.
    """

    def __getattr__(self, name: str) -> Any:
        # Asked by unittest.mock of whatever it patches.
        if name in ("_is_coroutine", "__func__"):
            return None
        raise RuntimeError(
            f"Test depends on current_app: something read its attribute {name!r}. "
            f"Pass the app there, or ask for the fixture depends_on_current_app."
        )


class UnitLogging(Logging):
    """Logging that leaves the test runner's alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.already_setup = True


def TestApp(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    log: Any = UnitLogging,
    backend: Any = None,
    broker: Any = None,
    **kwargs: Any,
) -> Celery:
    """Make an application for a test.

    Args:
        name: Its name.
        config: Settings beside, or instead of, `DEFAULT_TEST_CONFIG`.
        enable_logging: Set up logging as a real application would.
        set_as_current: Make it the current one.
        log: Class of ``app.log``, unless ``enable_logging``.
        backend: Result backend, instead of the one in memory.
        broker: Broker URL, instead of ``memory://``.
        **kwargs: Whatever else `Celery` takes.
    """
    from pgtasks.contrib.testing import tasks  # noqa: F401 - every app has celery.ping

    settings = {**deepcopy(DEFAULT_TEST_CONFIG), **(config or {})}
    for given, setting in ((broker, "broker_url"), (backend, "result_backend")):
        if given is not None:
            settings.pop(setting, None)
    app = Celery(
        name or "celery.tests",
        set_as_current=set_as_current,
        log=None if enable_logging else log,
        broker=broker,
        backend=backend,
        **kwargs,
    )
    app.add_defaults(settings)
    return app


@contextmanager
def set_trap(app: Any) -> Iterator[None]:
    """Let `Trap` be the current app inside the block."""

    class Everywhere:
        """In place of the thread's own state."""

        current_app: Any = Trap()

    own = _state._tls
    _state.set_default_app(Everywhere.current_app)
    _state._tls = Everywhere()
    try:
        yield
    finally:
        _state._tls = own


@contextmanager
def setup_default_app(app: Any, use_trap: bool = False) -> Iterator[None]:
    """Run a test with ``app``; what the process knows of apps is then as before.

    Args:
        app: The test's application, closed at the end.
        use_trap: Make use of the current app an error.
    """
    restore = _remember_state()
    try:
        if use_trap:
            with set_trap(app):
                yield
        else:
            yield
    finally:
        restore(app)


def _remember_state() -> Callable[[Any], None]:
    current = _state.get_current_app()
    default = _state.default_app
    finalizers = set(_state._on_app_finalizers)
    apps = weakref.WeakSet(_state._apps)

    def restore(app: Any) -> None:
        _state.set_default_app(default)
        _state._tls.current_app = current
        if app is not current:
            app.close()
            apps.discard(app)
        _state._on_app_finalizers = finalizers
        _state._apps = apps
        if app._backend is not None:
            # It holds the app and the app holds it: neither would go before
            # the garbage collector comes (celery#6382).
            app._backend_cache = None
            app._local.backend = None

    return restore
