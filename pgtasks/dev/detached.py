"""Becomes the process that serves a folder: no rights too many, no parent, one lock, one log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

__all__ = ["detach"]

MOST_LOG = 2_000_000
"""Bytes of a server's log above which the next start begins a new one."""


def detach(folder: str, uid: int | None, gid: int | None) -> bool:
    """Leave the starter, and own ``folder`` and its log from here on.

    Returns in a process of its own, which holds the folder's lock; the one that called
    ends when that is settled, so that whoever started it inherits no zombie.

    Args:
        folder: Where the server's files are.
        uid: User to become, for a root that must not run PostgreSQL.
        gid: Group likewise.

    Returns:
        Whether the lock is ours; False if another supervisor holds it.
    """
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    os.chdir(folder)
    locked, tell = os.pipe()
    if os.fork():
        # The starter waits for us, and we until the child holds the lock or has given up.
        os.close(tell)
        os.read(locked, 1)
        os._exit(0)
    os.close(locked)
    if not _lock():
        return False
    _take_log()
    os.close(tell)
    return True


def _lock() -> bool:
    # Held until this process ends, so nobody closes it.
    lock = os.open("supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(200):
        # A user that looks whether we live holds the lock for a moment, so try again.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.005)
    return False


def _take_log() -> None:
    with contextlib.suppress(OSError):
        if os.path.getsize("postgres.log") > MOST_LOG:
            os.replace("postgres.log", "postgres.log.1")
    log = os.open("postgres.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
