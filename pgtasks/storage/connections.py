"""Where the server is and how we talk to it: one URL, the session settings, the pooler.

Settings and their proof stand in the tables below. Whatever the user's own URL,
or libpq's environment, says about one of them wins.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ConnStatus, TransactionStatus

from pgtasks.storage.errors import StorageError, StorageMisconfigured, classify_connect
from pgtasks.storage.query import SCHEMA_NAME, Row

__all__ = [
    "PROBE",
    "AsyncSession",
    "Endpoint",
    "Line",
    "Session",
    "adopt",
    "forget_inherited",
    "is_idle",
    "redact",
]

# A host that vanishes without a word (a black hole) is found by the keepalives while
# we wait for an answer, and by tcp_user_timeout while we send: either alone hangs for
# more than 30 s in the other case; together it is 5 to 11 s.
_CLIENT = {
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    # A standby answers SELECT 1 as well as a primary does.
    "target_session_attrs": "read-write",
    # A database in SQL_ASCII would hand us bytes where we expect text.
    "client_encoding": "utf8",
}
_ENVIRONMENT = {
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "client_encoding": "PGCLIENTENCODING",
    "application_name": "PGAPPNAME",
}
_SERVER = {
    # The same from the other side. The check interval alone does not end the statement
    # of a client that vanished; with the server's keepalives it is gone after 7.5 s.
    "tcp_user_timeout": "10000",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "5000",
    # An insert that is sent again waits for the first try's session to end: 5.0 s with
    # this set to 5 s, more than 30 s without.
    "idle_in_transaction_session_timeout": "15000",
    # Fences and single statements do the work; a role's other default would only
    # bring serialization failures.
    "default_transaction_isolation": "read committed",
    # The estimates of our statements trip the JIT, whose compile time dwarfs their own.
    "jit": "off",
    # A plan made while the table was empty is kept for a table of a million rows. What
    # is fast there is known beforehand: indexes and nested loops. Planning each call
    # anew costs an insert 235 µs of the server instead of 72.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# `SELECT pg_backend_pid()` against the pid in the connection's cancel key: a pooler
# makes up the latter, as many clients share a server.
PROBE = "select pg_backend_pid()"


class Endpoint:
    """One server as named by a URL, and what was learnt of it.

    Attributes:
        address: The URL without the password, for messages.
        pooled: There is a PgBouncer or its like between: sessions are not ours, so
            nothing may be left in them. None until the first connection.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "pgtasks",
        application_name: str = "pgtasks",
        statement_timeout: float = 30.0,
        lock_timeout: float = 3.0,
        pooled: bool | None = None,
    ) -> None:
        if not SCHEMA_NAME.fullmatch(schema):
            raise StorageMisconfigured(
                f"{schema!r} is not a usable schema name: use lower-case letters, digits "
                f"and underscores, at most 51 of them (setting 'database_schema')."
            )
        self.url = url
        self.given = _parse(url)
        self.address = _address(self.given, url)
        self.pooled = pooled
        self.client = {**_CLIENT, "application_name": application_name}
        self.settings = {
            "statement_timeout": _milliseconds(statement_timeout),
            "lock_timeout": _milliseconds(lock_timeout),
            # Nothing that another role puts into `public` is ever found by name.
            "search_path": f"{schema},pg_catalog,pg_temp",
            **_SERVER,
        }
        self.takes_options = True
        self._per_statement: tuple[str, ...] = _PER_STATEMENT

    def insist_on(self, settings: Mapping[str, str]) -> None:
        """Have these settings too, behind a pooler as well."""
        self.settings.update(settings)
        self._per_statement += tuple(settings)

    def __repr__(self) -> str:
        return f"<Endpoint {self.address}>"

    def parameters(
        self, settings: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Keyword arguments for psycopg's ``connect``.

        Args:
            settings: Server settings of this one session, over the usual ones.
            timeout: At most this long, where less than ``connect_timeout``.
        """
        ours = {
            name: value
            for name, value in self.client.items()
            if _ENVIRONMENT.get(name, "") not in os.environ
        }
        parameters: dict[str, Any] = {**ours, **self.given}
        if self.takes_options:
            session = {**self.settings, **(settings or {})}
            options = [f"-c {name}={_escape(value)}" for name, value in session.items()]
            # The last -c wins, so theirs come last.
            theirs = self.given.get("options") or os.environ.get("PGOPTIONS", "")
            parameters["options"] = " ".join([*options, theirs]).strip()
        if timeout is not None:
            usual = parameters.get("connect_timeout") or os.environ["PGCONNECT_TIMEOUT"]
            # Below 2 s psycopg and libpq round up.
            parameters["connect_timeout"] = str(
                max(2, min(int(usual) or 10, round(timeout)))
            )
        return parameters

    def connect(
        self, settings: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Session:
        """Open an autocommit session; find out, the first time, about a pooler."""
        while True:
            offered = self.offer()
            try:
                session = Session.connect(
                    **self.parameters(settings, timeout),
                    autocommit=True,
                    prepare_threshold=None,
                )
                adopt(session)
                if self.pooled is None:
                    self.learn(session, session.execute(PROBE).fetchall())
            except psycopg.Error as error:
                if not self.concede(error, offered):
                    raise self.explain(error) from error
            else:
                return session

    def learn(self, session: Session | AsyncSession, answer: list[Row]) -> None:
        """Conclude from the answer to `PROBE` whether the session is really ours."""
        self.pooled = answer[0][0] != session.info.backend_pid

    def offer(self) -> frozenset[str]:
        """The names of the settings that we would send at this moment."""
        return frozenset(self.settings if self.takes_options else ())

    def concede(self, error: psycopg.Error, offered: frozenset[str]) -> bool:
        """Do without what the peer does not take at connect; false if that is not it.

        PgBouncer refuses ``options``; a server of another version or platform may not
        know, or not support, one setting.

        Args:
            error: What psycopg raised.
            offered: `offer` as it was before the connect: another thread may have
                conceded the same meanwhile.
        """
        match = _REFUSED.search(str(error))
        if match is None or not offered:
            return False
        name = match["name"]
        if name == "options" or match["pooler"]:
            self.takes_options = False
            return True
        self.settings = {key: self.settings[key] for key in self.settings if key != name}
        return name in offered

    def explain(self, error: psycopg.Error) -> StorageError:
        """Our error for a failed connect, without any secret in it."""
        found = classify_connect(error, self.address)
        found.args = (redact(str(found), self.url),)
        return found

    def local_settings(self, timeout: float | None) -> dict[str, str]:
        """The settings that one statement must bring along itself."""
        local: dict[str, str] = {}
        if self.pooled:
            # `options` were refused, or are those of another client's session.
            local = {name: self.settings[name] for name in self._per_statement}
        if timeout is not None:
            usual = int(self.settings["statement_timeout"])
            asked = max(1, round(timeout * 1000))
            local["statement_timeout"] = str(min(usual or asked, asked))
        return local


_PER_STATEMENT = ("statement_timeout", "lock_timeout", "search_path", "jit")
_REFUSED = re.compile(
    r"(?:unsupported startup parameter(?P<pooler> in options)?: *"
    r"|(?:unrecognized configuration|invalid value for) parameter *)\"?(?P<name>\w+)"
)


class Line:
    """A connection's line to the server: since when it is open, and whether it is dead."""

    __slots__ = ("_pgconn", "_poll", "opened", "pid", "used")

    def __init__(self, pgconn: psycopg.pq.abc.PGconn) -> None:
        self.pid = os.getpid()
        self.opened = self.used = time.monotonic()
        self._pgconn = pgconn
        self._poll = select.poll()
        self._poll.register(pgconn.socket, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether the server kept its end open while nobody looked; costs no round trip."""
        # Something to read on an idle connection is most often its end; it may also be
        # the server's news of a changed parameter, hence the few rounds.
        for _ in range(4):
            if not self._poll.poll(0):
                return True
            try:
                self._pgconn.consume_input()
                self._pgconn.notifies()
            except psycopg.OperationalError:
                return False
            if self._pgconn.status != ConnStatus.OK:
                return False
        return False


class Session(psycopg.Connection[Row]):
    """A psycopg connection, its `Line`, and the names of the statements prepared in it."""

    # psycopg takes this attribute as the mark of a connection that somebody keeps:
    # it may then be dropped at the end of the program without a ResourceWarning.
    _pool = None

    def __init__(self, pgconn: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pgconn, *args, **kwargs)
        self.line = Line(pgconn)
        self.prepared: dict[bytes, bytes] = {}


class AsyncSession(psycopg.AsyncConnection[Row]):
    """The same for event loops."""

    _pool = None

    def __init__(self, pgconn: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(pgconn, *args, **kwargs)
        self.line = Line(pgconn)
        self.prepared: dict[bytes, bytes] = {}


def is_idle(session: Session | AsyncSession) -> bool:
    """Whether another statement may follow: open, no transaction, no answer outstanding."""
    return bool(session.pgconn.transaction_status == TransactionStatus.IDLE)


# ── forks ──────────────────────────────────────────────────────────────────────────────
# A socket shared by parent and child gives both of them the other's answers (three wrong
# answers, then protocol errors), and a child that closes its copy properly says
# Terminate on behalf of the parent. So in a child all inherited sockets are pointed at
# /dev/null: nothing reaches the server, and the number is not given to another file
# while libpq still believes in it.

_sessions: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: list[Any] = []


def adopt(session: Session | AsyncSession) -> None:
    """Remember a session of this process, for its children to forget."""
    _sessions.add(session)


def forget_inherited() -> None:
    """Cut the sessions that this process got from its parent; run in each forked child."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    pid = os.getpid()
    for session in [each for each in _sessions if each.line.pid != pid]:
        _sessions.discard(session)
        # Kept for ever: collecting it would make libpq write to what the socket has become.
        _inherited.append(session)
        with contextlib.suppress(psycopg.Error, OSError):
            os.dup2(null, session.pgconn.socket, inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=forget_inherited)


# ── URLs ───────────────────────────────────────────────────────────────────────────────

_SCHEME = re.compile(r"^(?:db\+)?postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)


def _parse(url: str) -> dict[str, str]:
    text = _SCHEME.sub("postgresql://", url.strip())
    reason = "" if text else "it is empty"
    if not reason:
        try:
            return {name: str(value) for name, value in conninfo_to_dict(text).items()}
        except psycopg.Error as error:
            reason = str(error).strip()
    # Raised here, outside the handler: the context of an error is printed too, and
    # libpq's words may quote a password that it took for something else.
    if "://" not in url:
        # Of a DSN that ends in the middle of a password, nothing behind it is safe.
        url = re.sub(r"(password\s*=).*", r"\1***", url)
        reason = re.sub(r'"[^"]*"', '"…"', reason)
    raise StorageMisconfigured(
        f"The database URL {redact(url, url)!r} cannot be read: {redact(reason, url)}. "
        f"Expected postgresql://user:password@host:5432/database, with characters like "
        f"@ : / # in the password percent-encoded."
    )


def _address(given: Mapping[str, str], url: str) -> str:
    host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST", "")
    port = given.get("port") or os.environ.get("PGPORT", "")
    user = given.get("user") or os.environ.get("PGUSER", "")
    database = given.get("dbname") or os.environ.get("PGDATABASE") or user
    who = f"{user}@" if user else ""
    if "/" in host:
        where, rest = "", f"?host={host}" + (f"&port={port}" if port else "")
    else:
        where = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        rest = ""
    return redact(f"postgresql://{who}{where}/{database}{rest}", url)


_PASSWORD_VALUE = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)")
_PASSWORD_IN_URL = re.compile(r"(://[^:/@]*:)(.*)@")


def redact(text: str, url: str) -> str:
    """``text`` without the password that stands in ``url``."""
    text = _PASSWORD_VALUE.sub(r"\1***", text)
    text = _PASSWORD_IN_URL.sub(r"\1***@", text)
    # libpq tears a password with an unescaped @ or / in it apart and takes the pieces
    # for a host or a database, whose names it prints.
    match = _PASSWORD_IN_URL.search(url)
    if match is not None and re.search(r"[@/#?\[\]]|%(?![0-9A-Fa-f]{2})", match[2]):
        for piece in sorted(re.split(r"[@:/#?\[\]]", match[2]), key=len, reverse=True):
            text = text.replace(piece, "***") if len(piece) > 1 else text
            text = text.replace(unquote(piece), "***") if len(piece) > 1 else text
    return text


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
