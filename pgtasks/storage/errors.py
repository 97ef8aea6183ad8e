"""What can go wrong with PostgreSQL, sorted once by what to do about it.

::

    PgtasksError
    └── StorageError                something else; a bug more often than not
        ├── StorageUnavailable      try again, on a new connection
        ├── StorageBusy             try again, on the same connection
        ├── StorageFull             back off, keep what you have, take no more
        ├── BadData                 a value cannot be stored; find it, leave it out
        └── StorageMisconfigured    trying again is useless until a person acts
            ├── SchemaMissing
            ├── SchemaOutdated
            └── SchemaTooNew

Whoever catches one of these need not know psycopg. The error of the driver is its
``__cause__``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pgtasks.exceptions import PgtasksError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "BadData",
    "SchemaMissing",
    "SchemaOutdated",
    "SchemaTooNew",
    "StorageBusy",
    "StorageError",
    "StorageFull",
    "StorageMisconfigured",
    "StorageUnavailable",
    "classify",
    "classify_connect",
]


class StorageError(PgtasksError):
    """PostgreSQL refused a statement, or could not be asked.

    Attributes:
        sqlstate: The server's five-letter code; None when no server spoke.
        attempts: How often the statement was tried.
        not_run: The statement certainly did nothing, so that even one that must
            not run twice may be sent again.
    """

    def __init__(
        self, message: str, *, sqlstate: str | None = None, not_run: bool = False
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.not_run = not_run
        self.attempts = 1

    def after(self, attempts: int, seconds: float) -> Self:
        """The same error, telling how long it was fought."""
        self.attempts = attempts
        if attempts > 1:
            self.args = (
                f"{self.args[0]} Given up after {attempts} tries in {seconds:.1f} s.",
            )
        return self


class StorageUnavailable(StorageError):
    """There is no server, or the connection to it is lost; a new one may work."""


class StorageBusy(StorageError):
    """Others were in the way: a lock, a deadlock, a timeout, all connections in use."""


class StorageFull(StorageError):
    """The server runs, but has no room: disk, memory or the notification queue."""


class BadData(StorageError):
    """A value cannot be stored; what was sent along with it was not stored either."""


class StorageMisconfigured(StorageError):
    """Wrong password, no such database, missing tables or grants: a person must act."""


class SchemaMissing(StorageMisconfigured):
    """The database has no tables of ours."""


class SchemaOutdated(StorageMisconfigured):
    """The tables are older than this program."""


class SchemaTooNew(StorageMisconfigured):
    """The tables were changed in a way that this program does not understand."""


# Codes decide first, then their first two letters (the class). psycopg's own classes
# would not do: 25P03, 25P04 and 25006 are InternalError there, beside real bugs.
_CODES: dict[str, type[StorageError]] = {
    "25006": StorageUnavailable,  # read-only: we are talking to a standby
    "25P03": StorageUnavailable,  # idle_in_transaction_session_timeout
    "25P04": StorageUnavailable,  # transaction_timeout
    "26000": StorageUnavailable,  # a prepared statement is gone: a pooler swapped servers
    "40003": StorageUnavailable,
    "42P05": StorageUnavailable,  # … or is somebody else's
    "53300": StorageUnavailable,  # too many connections
    "54001": BadData,
    "55P03": StorageBusy,
    "57014": StorageBusy,
    "42P01": StorageMisconfigured,
    "42703": StorageMisconfigured,
    "42704": StorageMisconfigured,
    "42883": StorageMisconfigured,
    "42501": StorageMisconfigured,
}
_CLASSES: dict[str, type[StorageError]] = {
    "08": StorageUnavailable,
    "21": BadData,
    "22": BadData,
    "23": BadData,
    "28": StorageMisconfigured,
    "3D": StorageMisconfigured,
    "3F": StorageMisconfigured,
    "40": StorageBusy,
    "53": StorageFull,
    "54": BadData,
    "57": StorageUnavailable,
    "58": StorageFull,
}
_NOT_RUN = {"25006", "26000", "42P05"}

_REMEDIES = {
    "25006": "The server is a standby; a new connection looks for the primary "
    "(list every host in the URL).",
    "42501": "Grant this role the rights that the schema's owner has, or use its role.",
    "53300": "Raise the server's max_connections, lower 'broker_pool_limit', "
    "or put PgBouncer between.",
    "53100": "Free or add disk space; work goes on by itself then.",
    "55P03": "Another session holds a lock: see pg_stat_activity.",
    "57014": "It ran into statement_timeout or was cancelled by hand.",
}
_REMEDY_OF: dict[type[StorageError], str] = {
    StorageUnavailable: "Check that the server is up and that this machine reaches it.",
    StorageFull: "The server needs room; see its log.",
    StorageMisconfigured: "Is the schema of the right version? 'pgtasks schema verify' "
    "tells, 'pgtasks schema apply' brings it up to date.",
}


def classify(error: Exception, server: str) -> StorageError:
    """The error of ours that says what to do about one of psycopg's.

    Args:
        error: What a statement raised.
        server: Whom we talked to, without the password; for the message.
    """
    import psycopg

    if not isinstance(error, psycopg.Error):
        # str.encode() in the driver: a lone surrogate has no UTF-8 form.
        return BadData(f"A text cannot be sent to PostgreSQL: {error}.")
    code = error.sqlstate
    kind, not_run = _kind(error)
    text = (error.diag.message_primary or str(error)).strip().rstrip(".")
    remedy = _REMEDIES.get(code or "") or _REMEDY_OF.get(kind, "")
    where = f"PostgreSQL at {server}"
    if code:
        where += f" answered {code}"
    return kind(f"{where}: {text}. {remedy}".rstrip(), sqlstate=code, not_run=not_run)


def _kind(error: Any) -> tuple[type[StorageError], bool]:
    import psycopg

    code = error.sqlstate
    if code is None:
        if isinstance(error, psycopg.DataError):
            return BadData, True
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            # A backend that was killed says nothing: the socket just ends.
            return StorageUnavailable, False
        return StorageError, False
    if code == "0A000":
        # Names of C functions, because the texts come in the server's language.
        if error.diag.source_function == "RevalidateCachedQuery":
            return StorageUnavailable, True  # a migration changed a result type
        if "recovery" in str(error):
            return StorageUnavailable, True
        return StorageError, False
    if code == "54000" and error.diag.source_file == "async.c":
        return StorageFull, False  # the notification queue
    kind = _CODES.get(code) or _CLASSES.get(code[:2]) or StorageError
    return kind, code in _NOT_RUN


# At connect psycopg knows no code, only a text, and a lost server, a wrong password
# and a missing database are all OperationalError.
_HOPELESS = [
    (
        r"authentication failed|no password supplied",
        "Check user and password in the URL (percent-encode characters like @ : / # in "
        "them), or use PGPASSFILE.",
    ),
    (
        r'database "[^"]*" does not exist',
        "Create it (createdb), or correct the name in the URL.",
    ),
    (
        r'role "[^"]*" does not exist',
        "Create it (createuser), or name another user in the URL.",
    ),
    (
        r"no pg_hba\.conf entry|not permitted to log in|permission denied for database",
        "Allow this user and host in the server's pg_hba.conf, or grant CONNECT.",
    ),
    (
        r"unrecognized configuration parameter|invalid value for parameter"
        r"|unsupported startup parameter",
        "Correct 'options' in the URL or PGOPTIONS.",
    ),
    (
        r"server does not support SSL|certificate|private key file|invalid \w+ value",
        "Correct the ssl… parameters of the URL.",
    ),
]
_TRANSIENT = [
    (r"failed to resolve|could not translate host", "Check the host name in the URL."),
    (r"starting up|shutting down|recovery mode", "It is expected to come back by itself."),
    (
        r"too many clients|too many connections|remaining connection slots",
        _REMEDIES["53300"],
    ),
    (
        r"read-only|hot standby",
        "No primary answered: list every host of the cluster in the URL.",
    ),
    (r"timeout", "Is a firewall between? Check host and port in the URL."),
]


def classify_connect(error: Exception, server: str) -> StorageError:
    """The error of ours for a connection that could not be made."""
    text = " ".join(str(error).split()).rstrip(".?")
    message = f"Cannot connect to PostgreSQL at {server}: {text}. "
    for pattern, remedy in _HOPELESS:
        if re.search(pattern, text):
            return StorageMisconfigured(message + remedy, not_run=True)
    for pattern, remedy in _TRANSIENT:
        if re.search(pattern, text):
            return StorageUnavailable(message + remedy, not_run=True)
    remedy = "Start the server, or correct host and port in the URL."
    return StorageUnavailable(message + remedy, not_run=True)
