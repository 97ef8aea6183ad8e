"""Tasks whose effects and end are one transaction: ``@app.task(transactional=True)``.

The body gets a connection in a transaction. When it returns, the job's row is settled on that
very connection, with all that its end leads to, and both are committed together: there is no
moment at which the one is done and the other is not. If the body raises, the transaction is
rolled back, and the worker settles the job as any other.

Whoever has lost the job meanwhile finds no row to settle, and rolls back (R3). Whoever has
lost the answer to the commit looks at the row before anything else is done (R9).

Here is what the option may be, and which transactions there are; `pgtasks.app.enclosing` runs
the bodies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pgtasks.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pgtasks.app.enclosing import Enclosed

__all__ = [
    "NAMES", "Connection", "beginning_of", "check", "enclosing", "of_the_scope", "offer",
    "offers", "option_of", "running",
]  # fmt: skip

#: A connection in a transaction, as a context that commits it.
Opened = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]
#: Answers one for a body that is a coroutine or not; None if it leads elsewhere.
Offer = Callable[[bool], Opened | None]

NAMES = ("psycopg", "django", "sqlalchemy")

#: The connection of the transactional task that runs in this context.
running: ContextVar[Any] = ContextVar("pgtasks.transactional", default=None)


# ── what the option may be ──────────────────────────────────────────────────────────────


def check(task: Any) -> None:
    """Refuse a task whose ``transactional`` cannot work.

    Args:
        task: The task's class.

    Raises:
        ImproperlyConfigured: It says what.
    """
    given = option_of(task)
    if given is None or isinstance(given, bool) or given in NAMES or _opens(given):
        return
    raise ImproperlyConfigured(
        f"transactional={given!r} of task {task.name!r}: write True, one of "
        f"{', '.join(map(repr, NAMES))}, an Engine or sessionmaker of SQLAlchemy, or a "
        f"function that answers a context manager such as psycopg_pool's pool.connection."
    )


def option_of(task: Any) -> Any:
    """What the author has given, where a function must not become a method."""
    given = inspect.getattr_static(task, "transactional", None)
    return given.__func__ if isinstance(given, staticmethod) else given


def _opens(given: Any) -> bool:
    return not isinstance(given, str) and (
        callable(given) or beginning_of(given) is not None
    )


def beginning_of(given: Any) -> Callable[[], Opened] | None:
    """How to begin a transaction on an Engine, a sessionmaker, or a scoped_session."""
    if hasattr(given, "registry") and hasattr(given, "remove"):
        return lambda: of_the_scope(given)
    if hasattr(given, "begin") and not isinstance(given, type):
        begin: Callable[[], Opened] = given.begin
        return begin
    return None


@contextmanager
def of_the_scope(registry: Any) -> Iterator[Any]:
    """The session of this thread in a ``scoped_session``, in a transaction."""
    # What an earlier task of this thread has left there is not this one's.
    registry.remove()
    try:
        session = registry()
        with session.begin():
            yield session
    finally:
        registry.remove()


def offer(app: Any, name: str, begin: Offer) -> None:
    """Have ``transactional=True`` use transactions of this kind.

    Args:
        app: The application.
        name: What ``transactional=`` may call it.
        begin: Opens one.
    """
    app.__dict__.setdefault("_offered_transactions", []).append((name, begin))


def offers(app: Any) -> list[tuple[str, Offer]]:
    """What `offer` was told, first come first."""
    found: list[tuple[str, Offer]] = app.__dict__.get("_offered_transactions", [])
    return found


# ── while one runs ──────────────────────────────────────────────────────────────────────


class Connection:
    """``Task.connection``: that of the run that is under way here.

    Only what is read is looked up: many programs have an attribute of this name of their
    own, in a class or set by its ``__init__``, and keep it.
    """

    def __get__(self, task: Any, owner: Any) -> Any:
        if task is None:
            return self
        found = running.get()
        if found is None:
            raise AttributeError(
                f"{task.name} has no connection here: that is for the body of a task with "
                f"@app.task(bind=True, transactional=True), while it runs.",
                name="connection",
                obj=task,
            )
        return found


def enclosing(app: Any, task: Any, fun: Callable[..., Any]) -> Enclosed | None:
    """What runs the body ``fun`` in a transaction; None if the task wants none."""
    given = option_of(task.__class__)
    if not given:
        return None
    # Not before somebody runs one: it knows the drivers.
    from pgtasks.app.enclosing import Enclosed

    return Enclosed(app, task, fun, given)
