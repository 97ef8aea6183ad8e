"""A PostgreSQL that starts by itself: shared by a project, or private to a test.

For development and tests, never for production. There is no configuration and no daemon to
look after: the first process that asks starts the server, the others join it, and it ends
with the last of them, however that one dies. Its data stay.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pgtasks.dev import EmbeddedPostgresError
from pgtasks.dev.binaries import find_binaries
from pgtasks.dev.launch import Wish
from pgtasks.dev.places import (
    TEMPORARY,
    default_folder,
    is_free,
    occupy,
    occupy_temporary,
)
from pgtasks.dev.server import Server, remove
from pgtasks.dev.wire import socket_folder

__all__ = [
    "EmbeddedPostgresError",
    "Server",
    "find_binaries",
    "private_server",
    "shared_server",
]

_LINGER = 5.0  # one script after the other should not start a server each
_SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "jit": "off",
    # Nobody replicates from a development server: less WAL, and one process fewer.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
}


def shared_server(
    data_dir: Path | None = None, *, linger: float | None = None, timeout: float = 60.0
) -> Server:
    """Join the server of this project, or start it.

    Two terminals in one project find the same server with no configuration. It runs as
    long as a process that joined it lives, a child of one, or a client like psql is
    connected; the data are kept, and safe from a power cut.

    Args:
        data_dir: Its folder; by default ``PGTASKS_DATA_DIR``, else ``.pgtasks/postgres`` in
            the project's folder.
        linger: How many seconds it stays without users; decided by who starts it. By
            default ``PGTASKS_LINGER``, else 5.
        timeout: How many seconds to wait for it.

    Raises:
        EmbeddedPostgresError: There is no PostgreSQL here or it does not start; the message
            says what to do.
    """
    if linger is None:
        linger = _linger_of_environment()
    place = occupy(Path(data_dir) if data_dir is not None else default_folder())
    return Server(place, Wish(_SETTINGS, linger=linger, timeout=timeout))


def private_server(
    *,
    durable: bool = False,
    settings: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Server:
    """Start a server of one's own in a temporary folder.

    It ends and the folder goes when it is closed or its owner dies, be it of SIGKILL.

    Args:
        durable: Whether data must survive a power cut. They survive a killed server in
            either case, so tests of crashes need not pay for it.
        settings: Further settings of PostgreSQL.
        timeout: How many seconds to wait for it.

    Raises:
        EmbeddedPostgresError: As :func:`shared_server`.
    """
    _sweep()
    hasty = {} if durable else {"fsync": "off", "full_page_writes": "off"}
    chosen = _SETTINGS | hasty | dict(settings or {})
    wish = Wish(chosen, linger=0, timeout=timeout, durable=durable, temporary=True)
    return Server(occupy_temporary(), wish)


def _sweep() -> None:
    """Remove the folders of private servers whose owner and supervisor were both killed."""
    for parent in {Path("/tmp"), Path(tempfile.gettempdir())}:  # noqa: S108 - only looked at
        for folder in parent.glob(f"{TEMPORARY}*"):
            with contextlib.suppress(OSError):
                owner = folder.lstat().st_uid
                # Without a status it is about to be started, and its lock not yet taken.
                started = (folder / "status.json").exists()
                if (
                    started
                    and os.geteuid() in (0, owner)
                    and is_free(folder / "users.lock")
                ):
                    remove(folder, socket_folder(str(folder), owner))


def _linger_of_environment() -> float:
    text = os.environ.get("PGTASKS_LINGER")
    try:
        return float(text) if text else _LINGER
    except ValueError:
        raise EmbeddedPostgresError(
            f"PGTASKS_LINGER is {text!r}; it takes a number of seconds, such as 5."
        ) from None
