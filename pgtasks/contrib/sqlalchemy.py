"""Has jobs join the transactions of SQLAlchemy's sessions by themselves.

::

    Session = sessionmaker(engine)
    pgtasks.contrib.sqlalchemy.join(app, Session)

    with Session.begin() as session:
        session.add(order)
        confirm.delay(order.number)

From then on a job that is sent while such a session is in a transaction is inserted by that
session: it exists when the session is committed, and never does if it is rolled back.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any
from weakref import ref

from pgtasks.app import transactional, transactions
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.storage.places import same_place

__all__ = ["join"]

#: Sessions that were used in this context, the last one first. A tuple, for contexts are
#: copied and must not see what others add.
_used: ContextVar[tuple[ref[Any], ...]] = ContextVar("pgtasks.sqlalchemy", default=())


def join(app: Any, sessions: Any) -> None:
    """Have the jobs of ``app`` join the transactions of these sessions.

    To be called once, where the application or its sessions are made. A job joins the
    session of this thread, or of this coroutine, that is in a transaction on the
    application's database; where there are several, the one that was used last. Outside of
    transactions a job is inserted at once, as ever.

    A session that is closed without a commit is rolled back, and so are jobs that were sent
    meanwhile: where a session only reads, send with ``connection=None``, or
    ``with pgtasks.using(None)``. The setting ``task_join_transaction = False`` turns all of
    this off.

    Args:
        app: The application.
        sessions: A ``sessionmaker`` or ``async_sessionmaker``, a ``scoped_session`` or
            ``async_scoped_session``, such as Flask-SQLAlchemy's ``db.session``, or a class
            of sessions.

    Raises:
        TypeError: It is none of these; a single session is lent with `pgtasks.using`.
    """
    is_ours = _Ours(app)
    if hasattr(sessions, "registry"):
        registry = sessions.registry

        def of_the_scope() -> Any:
            try:
                # Asked without making one.
                session = registry() if registry.has() else None
            except RuntimeError:
                # The scope is a request, or a task of asyncio's, and there is none.
                return None
            session = getattr(session, "sync_session", session)
            return session if _is_in_transaction(session) and is_ours(session) else None

        transactions.join(app, of_the_scope)
        begin = _Beginning(app, sessions, is_ours).of_the_scope
        transactional.offer(app, "sqlalchemy", begin)
        return

    maker = _with_events(sessions)
    _listen(maker)

    def of_the_context() -> Any:
        for reference in _used.get():
            session: Any = reference()
            known = _is_in_transaction(session) and maker in session.__pgtasks__
            if known and is_ours(session):
                return session
        return None

    transactions.join(app, of_the_context)
    begin = _Beginning(app, sessions, is_ours).of_the_maker
    transactional.offer(app, "sqlalchemy", begin)


def _is_in_transaction(session: Any) -> bool:
    return session is not None and bool(session.in_transaction())


def _with_events(sessions: Any) -> Any:
    """What SQLAlchemy's events can be listened to on, for these sessions."""
    from sqlalchemy.orm import Session, sessionmaker

    if isinstance(sessions, sessionmaker):
        return sessions
    asyncio = sys.modules.get("sqlalchemy.ext.asyncio")
    if asyncio is not None and isinstance(sessions, asyncio.async_sessionmaker):
        return _with_own_sync_session(sessions)
    if isinstance(sessions, type) and issubclass(sessions, Session):
        return sessions
    kind = f"{type(sessions).__module__}.{type(sessions).__qualname__}"
    raise TypeError(
        f"The sessions of a {kind} cannot be joined: give a sessionmaker, "
        f"async_sessionmaker, scoped_session or async_scoped_session, or a class of "
        f"sessions. A single session is lent by pgtasks.using(session)."
    )


def _with_own_sync_session(sessions: Any) -> Any:
    """A class of its own for the sessions inside of those that this maker makes.

    They are where the events are, and the maker's are to be told apart from all others.
    """
    inner = sessions.kw.get("sync_session_class") or sessions.class_.sync_session_class
    own = type(inner.__name__, (inner,), {"__module__": inner.__module__})
    sessions.configure(sync_session_class=own)
    return own


def _listen(maker: Any) -> None:
    """Notice in which context each session is used."""
    from sqlalchemy import event

    def note(session: Any) -> None:
        _note(session, maker)

    # Begun here, or elsewhere and used here: frameworks begin a session in one thread, or
    # task, and hand it to another.
    event.listen(maker, "after_transaction_create", lambda session, _: note(session))
    event.listen(maker, "before_attach", lambda session, _: note(session))
    event.listen(maker, "before_flush", lambda session, _, __: note(session))
    event.listen(maker, "do_orm_execute", lambda state: note(state.session))


def _note(session: Any, maker: Any) -> None:
    session.__dict__.setdefault("__pgtasks__", set()).add(maker)
    used = _used.get()
    if used and used[0]() is session:
        return
    others = [each for each in used if _is_in_transaction(each()) and each() is not session]
    _used.set((ref(session), *others))


class _Beginning:
    """Begins transactions for the bodies of transactional tasks.

    Args:
        app: The application.
        sessions: What `join` was given.
        is_ours: Whether a session leads to the application's database.
    """

    def __init__(self, app: Any, sessions: Any, is_ours: _Ours) -> None:
        self._app = app
        self._sessions = sessions
        self._is_ours = is_ours

    def of_the_scope(self, is_async: bool) -> Any:
        """The session of this thread, in a transaction; see `transactional.offer`."""
        # That of a coroutine is found by a scope that is the program's business.
        maker = getattr(self._sessions, "session_factory", None)
        if is_async or maker is None or not self._leads_home(maker):
            return None
        return transactional.of_the_scope(self._sessions)

    def of_the_maker(self, is_async: bool) -> Any:
        """A session of its own, in a transaction; see `transactional.offer`."""
        made = hasattr(self._sessions, "begin") and not isinstance(self._sessions, type)
        if _is_of_asyncio(self._sessions) != is_async or not made:
            return None
        return self._sessions.begin() if self._leads_home(self._sessions) else None

    def _leads_home(self, maker: Any) -> bool:
        if keeps_jobs_in_memory(self._app):
            return True  # A test: there is no database that it would have to be.
        session = maker()
        return self._is_ours(getattr(session, "sync_session", session))


def _is_of_asyncio(sessions: Any) -> bool:
    asyncio = sys.modules.get("sqlalchemy.ext.asyncio")
    return asyncio is not None and isinstance(sessions, asyncio.async_sessionmaker)


class _Ours:
    """Whether a session leads to the database of an application."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, session: Any) -> bool:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            engine = session.get_bind().engine
        except SQLAlchemyError:
            # A database for each class of objects, so which one depends on what is asked.
            return False
        if engine.dialect.name != "postgresql":
            return False
        there = _address(engine.url)
        # An engine with a function for its connections says nothing of where they lead;
        # whoever has registered its sessions does.
        return not there or same_place(there, self._app.database.endpoint.given)


def _address(url: Any) -> dict[str, Any]:
    """What a URL of SQLAlchemy's says of the place, in libpq's words."""
    named = {"host": url.host, "port": url.port, "dbname": url.database}
    query = {
        key: value if isinstance(value, str) else ",".join(value)
        for key, value in url.query.items()
        if key in ("host", "port", "dbname", "service")
    }
    found = {key: value for key, value in {**query, **named}.items() if value}
    if found and url.username:
        found["user"] = url.username
    for key in ("host", "port"):
        # `?host=…` is where a folder fits in; given twice, the query is what drivers use.
        if key in query:
            found[key] = query[key]
    return found
