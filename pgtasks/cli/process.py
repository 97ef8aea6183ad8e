"""The process that a long-running command is: its pid file, and its user."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pgtasks.cli.invocation import Failure
from pgtasks.exceptions import SecurityError
from pgtasks.platforms import EX_CANTCREAT, Pidfile, maybe_drop_privileges
from pgtasks.platforms.pidfile import LockFailed

__all__ = ["EX_CANTCREAT", "become", "log_file", "pid_file", "warn_of_root"]

EX_NOUSER = 67


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Hold a pid file: it says which process this is, and that there is no other.

    Raises:
        Failure: Another process that lives holds it, or it cannot be written.
    """
    if path is None:
        yield
        return
    lock = Pidfile(path)
    try:
        if lock.is_locked() and not lock.remove_if_stale():
            raise Failure(
                f"The pid file {path} belongs to process {lock.read_pid()}, which is "
                f"running. Is this one running already? Stop it, or choose another "
                f"--pidfile.",
                EX_CANTCREAT,
            )
        lock.acquire()
    except (OSError, LockFailed) as error:
        reason = getattr(error.__cause__ or error, "strerror", None) or error
        raise Failure(
            f"Cannot write the pid file {path}: {reason}. Choose another place with "
            f"--pidfile.",
            EX_CANTCREAT,
        ) from error
    owner = os.getpid()
    try:
        yield
    finally:
        # Children that were forked leave through here too, and it is not theirs.
        if os.getpid() == owner:
            lock.release()


@contextmanager
def log_file(path: str | None) -> Iterator[None]:
    """Begin to log there.

    Raises:
        Failure: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise Failure(
            f"Cannot write the log file {path}: {error.strerror}. Choose another place with "
            f"--logfile.",
            EX_CANTCREAT,
        ) from error


# ── who it is ───────────────────────────────────────────────────────────────────────────


def become(uid: str | int | None, gid: str | int | None, umask: str | int | None) -> None:
    """Go on as another user and group, by name or number, and with this umask (octal).

    Raises:
        Failure: There is no such user, or one may not become it.
    """
    if umask:
        try:
            os.umask(umask if isinstance(umask, int) else int(umask, 8))
        except ValueError:
            raise Failure(f"--umask is {umask!r}: write it in octal, as 022.", 2) from None
    try:
        maybe_drop_privileges(uid, gid)
    except KeyError as error:
        raise Failure(f"{error.args[0]} (options --uid and --gid).", EX_NOUSER) from None
    except (PermissionError, SecurityError) as error:
        raise Failure(
            f"Only root may become another user ({error}). Leave --uid and --gid out, and "
            f"start it as that user.",
            EX_NOUSER,
        ) from None


def warn_of_root(accept_content: Sequence[str]) -> str | None:
    """What to say to somebody who starts a worker as root; None to anybody else.

    Raises:
        Failure: It would also unpickle what anyone who may write to the tables has put
            there, as root, and ``C_FORCE_ROOT`` does not say that this is wanted.
    """
    if not hasattr(os, "geteuid") or 0 not in (os.getuid(), os.geteuid()):
        return None
    dangerous = {"pickle", "application/x-python-serialize"} & set(accept_content)
    if dangerous and not os.environ.get("C_FORCE_ROOT"):
        raise Failure(
            "This worker would run as root and unpickle arguments (accept_content has "
            "'pickle'), so whoever may insert jobs could run anything as root. Start it as "
            "another user (--uid), or set C_FORCE_ROOT=1 if you know that nobody can."
        )
    return (
        f"You are running the worker with superuser privileges (uid={os.getuid()} "
        f"euid={os.geteuid()}): absolutely not recommended! Use another user (--uid)."
    )
