"""The process that a long-running command is: its pid file, its user, its background."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pgtasks.cli.invocation import Failure

__all__ = ["EX_CANTCREAT", "become", "detach", "is_detached", "pid_file", "warn_of_root"]

T = TypeVar("T")

EX_CANTCREAT = 73
EX_NOUSER = 67

_DETACHED = "PGTASKS_DETACHED"

PATIENCE = 2.0
"""Seconds for which a process sent to the background is watched for an early end."""


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Hold a pid file: it says which process this is, and that there is no other.

    Raises:
        Failure: Another process that lives holds it, or it cannot be written.
    """
    if path is None:
        yield
        return
    file = Path(path)
    _write(file)
    owner = os.getpid()
    try:
        yield
    finally:
        # Children that were forked leave through here too, and it is not theirs.
        if os.getpid() == owner:
            with contextlib.suppress(OSError):
                file.unlink()


def _write(file: Path) -> None:
    for _ in range(3):
        try:
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            other = _pid_in(file)
            if other is not None and _lives(other):
                raise Failure(
                    f"The pid file {file} belongs to process {other}, which is running. Is "
                    f"this worker running already? Stop it, or choose another --pidfile.",
                    EX_CANTCREAT,
                ) from None
            # Left behind by a process that was killed.
            file.unlink(missing_ok=True)
        except OSError as error:
            raise Failure(
                f"Cannot write the pid file {file}: {error.strerror}. Choose another place "
                f"with --pidfile.",
                EX_CANTCREAT,
            ) from error
        else:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(f"{os.getpid()}\n")
            return
    raise Failure(
        f"The pid file {file} comes back as often as it is removed.", EX_CANTCREAT
    )


def _pid_in(file: Path) -> int | None:
    try:
        pid = int(file.read_text().strip())
    except (OSError, ValueError):
        return None
    return pid if pid > 0 else None


def _lives(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# ── who it is ───────────────────────────────────────────────────────────────────────────


def become(uid: str | None, gid: str | None, umask: str | None) -> None:
    """Go on as another user and group, by name or number, and with this umask (octal).

    Raises:
        Failure: There is no such user, or one may not become it.
    """
    import grp
    import pwd

    if umask:
        try:
            os.umask(int(str(umask), 8))
        except ValueError:
            raise Failure(f"--umask is {umask!r}: write it in octal, as 022.", 2) from None
    try:
        user = _entry(uid, pwd.getpwnam, pwd.getpwuid)
        group = _entry(gid, grp.getgrnam, grp.getgrgid)
    except KeyError as error:
        raise Failure(f"{error.args[0]} (options --uid and --gid).", EX_NOUSER) from None
    if user is None and group is None:
        return
    try:
        number = group.gr_gid if group is not None else user.pw_gid  # type: ignore[union-attr]
        os.setgid(number)
        if user is not None:
            os.initgroups(user.pw_name, number)
            os.setuid(user.pw_uid)
    except PermissionError as error:
        raise Failure(
            f"Only root may become another user ({error}). Leave --uid and --gid out, and "
            f"start it as that user.",
            EX_NOUSER,
        ) from None


def _entry(
    name: str | None, by_name: Callable[[str], T], by_number: Callable[[int], T]
) -> T | None:
    if not name:
        return None
    return by_number(int(name)) if str(name).isdigit() else by_name(name)


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


# ── in the background ───────────────────────────────────────────────────────────────────


def is_detached() -> bool:
    """Whether this is the process that `detach` has started."""
    return os.environ.pop(_DETACHED, None) is not None


def detach(words: Sequence[str], *, executable: str | None = None) -> int:
    """Start the same command in the background; the answer is its pid.

    It is watched for a moment: what is wrong with the options shows at once.

    Args:
        words: The command line, without the program's name.
        executable: The Python to run; this one by default.

    Raises:
        Failure: It has ended already.
    """
    with tempfile.TemporaryFile() as words_of_it:
        process = subprocess.Popen(
            [executable or sys.executable, "-m", "pgtasks", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words_of_it,
            start_new_session=True,
            env={**os.environ, _DETACHED: "1"},
        )
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # It goes on without us, which is what was asked for.
            process.returncode = 0
            return process.pid
        words_of_it.seek(0)
        last = words_of_it.read().decode(errors="replace").strip()
    raise Failure(
        f"The worker in the background ended at once, with status {status}. Its last "
        f"words:\n\n{last[-2000:] or '(none)'}",
        status or 1,
    )
