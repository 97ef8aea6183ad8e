"""Under which account the server runs when we are root, which PostgreSQL refuses to be."""

from __future__ import annotations

import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.dev import EmbeddedPostgresError

__all__ = [
    "Account",
    "EmbeddedPostgresError",
    "can_enter",
    "stand_in_for_root",
    "system_folder",
]

_STAND_INS = ("postgres", "_postgres", "nobody")
_SYSTEM_FOLDERS = ("/var/lib/pgtasks", "/var/tmp/pgtasks-root")  # noqa: S108 - its owner is checked


@dataclass(frozen=True)
class Account:
    """An existing account of this machine that is not root."""

    name: str
    uid: int
    gid: int

    def popen_options(self) -> dict[str, Any]:
        """The arguments that make ``subprocess`` run a program under this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def stand_in_for_root(folder: Path) -> Account:
    """The account that runs the server when we are root: an existing one, never a new one.

    A project that belongs to a person is served under that person's account, so that both
    root (``sudo``, a container) and its owner can use the server. Otherwise it is
    ``postgres``, else ``nobody``.
    """
    owner = _first_existing(folder).stat().st_uid
    try:
        if owner != 0:
            return _account(pwd.getpwuid(owner))
    except KeyError:
        pass  # the owner lives on another machine: a folder mounted into a container
    for name in _STAND_INS:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and this machine has neither an account "
        "'postgres' nor 'nobody' to run it under. Run as an ordinary user, or set "
        "PGTASKS_DATABASE_URL to a PostgreSQL that runs already."
    )


def can_enter(folder: Path, account: Account) -> bool:
    """Whether ``account`` reaches ``folder``; tried, because ACLs are hard to compute."""
    try:
        answer = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
            cwd="/",
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **account.popen_options(),
        )
    except OSError as error:
        # Root without CAP_SETUID, or alone in its user namespace.
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and this process may not switch to the "
            f"account {account.name!r} (uid {account.uid}): {error.strerror}. Run as an "
            f"ordinary user, give the container CAP_SETUID and CAP_SETGID, or set "
            f"PGTASKS_DATABASE_URL to a PostgreSQL that runs already."
        ) from error
    return answer.returncode == 0


def system_folder() -> Path:
    """Where root keeps what the stand-in account must reach: a folder of root's own."""
    for name in _SYSTEM_FOLDERS:
        folder = Path(name)
        try:
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)  # whatever the umask says
        except FileExistsError:
            pass
        except OSError:
            continue  # no /var/lib, or a read-only system
        found = folder.lstat()
        # /var/tmp is everybody's: what somebody else put there is not ours to use.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022:
            return folder
    raise EmbeddedPostgresError(
        f"PostgreSQL does not run as root, and none of {', '.join(_SYSTEM_FOLDERS)} can "
        f"hold its files. Set PGTASKS_DATA_DIR to a folder that other accounts can enter, "
        f"or set PGTASKS_DATABASE_URL to a PostgreSQL that runs already."
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _first_existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
