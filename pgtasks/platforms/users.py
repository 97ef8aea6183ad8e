"""Users and groups: who this process is, who it becomes, and who it had better not be."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from pgtasks import platforms as package
from pgtasks.exceptions import SecurityError, SecurityWarning

__all__ = [
    "check_privileges",
    "initgroups",
    "maybe_drop_privileges",
    "parse_gid",
    "parse_uid",
    "setgid",
    "setgroups",
    "setuid",
]

_WHO = "uid={uid} euid={euid} gid={gid} egid={egid}"

ROOT_DISALLOWED = (
    "The worker would run with superuser privileges and accepts pickle, so whoever can "
    "send it a task is root on this machine. Run it as another user (--uid), do without "
    "pickle in accept_content, or set C_FORCE_ROOT if nobody else can send tasks.\n"
    f"{_WHO}"
)

ROOT_DISCOURAGED = (
    "The worker runs with superuser privileges, which no task should have. Run it as "
    f"another user (--uid).\n{_WHO}"
)

ASSUMING_ROOT = (
    "The group of this process has no entry in the system's database, so it is taken for "
    "one that may become root."
)


def parse_uid(uid: str | int) -> int:
    """The number of a user, by name or number.

    Raises:
        KeyError: There is no such user.
    """
    try:
        return int(uid)
    except ValueError:
        try:
            number: int = package.pwd.getpwnam(uid).pw_uid
        except (AttributeError, KeyError):
            raise KeyError(f"User does not exist: {uid}") from None
        return number


def parse_gid(gid: str | int) -> int:
    """The number of a group, by name or number.

    Raises:
        KeyError: There is no such group.
    """
    try:
        return int(gid)
    except ValueError:
        try:
            number: int = package.grp.getgrnam(gid).gr_gid
        except (AttributeError, KeyError):
            raise KeyError(f"Group does not exist: {gid}") from None
        return number


def _setgroups_hack(groups: Sequence[int]) -> Any:
    """Join as many of the groups as the system allows, of which it does not tell."""
    left = list(groups)
    while True:
        try:
            return os.setgroups(left)
        except (ValueError, OSError) as error:
            too_many = isinstance(error, ValueError) or error.errno == errno.EINVAL
            if not too_many or len(left) <= 1:
                raise
            left.pop()


def setgroups(groups: Sequence[int]) -> Any:
    """Be a member of these groups, of as many as the system allows."""
    try:
        most: int | None = os.sysconf("SC_NGROUPS_MAX")
    except Exception:
        most = None
    try:
        return package._setgroups_hack(groups[:most])
    except OSError as error:
        # Nothing is lost if we are in no other groups anyway.
        if error.errno != errno.EPERM or set(os.getgroups()) - set(groups):
            raise


def initgroups(uid: int, gid: int) -> Any:
    """Be a member of a user's groups, and of ``gid``."""
    if not package.pwd:
        return None
    name = package.pwd.getpwuid(uid)[0]
    if hasattr(os, "initgroups"):
        return os.initgroups(name, gid)
    return package.setgroups(
        [each.gr_gid for each in package.grp.getgrall() if name in each.gr_mem]
    )


def setgid(gid: str | int) -> None:
    """Change the group of this process."""
    os.setgid(package.parse_gid(gid))


def setuid(uid: str | int) -> None:
    """Change the user of this process."""
    os.setuid(package.parse_uid(uid))


def maybe_drop_privileges(
    uid: str | int | None = None, gid: str | int | None = None
) -> None:
    """Become another user for good, if one is named.

    Args:
        uid: User, by name or number. Without ``gid``, that user's group comes along.
        gid: Group, likewise.

    Raises:
        SecurityError: The way back is still open.
    """
    if sys.platform == "win32":
        return
    if os.geteuid() and not os.getuid():
        raise SecurityError(
            "This process is root's, with another user in effect: start it as either."
        )
    user = package.parse_uid(uid) if uid else 0
    group = package.parse_gid(gid) if gid else 0
    if user:
        _become(user, group)
    elif group:
        package.setgid(group)
    if user and not os.getuid() and not os.geteuid():
        raise SecurityError("Still root uid after drop privileges!")
    if group and not os.getgid() and not os.getegid():
        raise SecurityError("Still root gid after drop privileges!")


def _become(user: int, group: int) -> None:
    if not group and package.pwd:
        group = package.pwd.getpwuid(user).pw_gid
    # The user last: others may not change groups. And the group before the groups, which
    # some systems forget when it changes.
    package.setgid(group)
    package.initgroups(user, group)
    package.setuid(user)
    try:
        package.setuid(0)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    else:
        raise SecurityError("non-root user able to restore privileges after setuid.")


def check_privileges(accept_content: Iterable[str]) -> None:
    """Warn if this process is root or may become root, and refuse if it takes pickle too.

    ``C_FORCE_ROOT`` in the environment makes it a warning in any case.

    Raises:
        SecurityError: Whoever can send it a task would be root here.
    """
    if package.grp is None or package.pwd is None:
        return
    os = package.os
    names = ("getuid", "geteuid", "getgid", "getegid")
    if hasattr(os, "fchown") and not all(hasattr(os, name) for name in names):
        raise SecurityError("suspicious platform, contact support")
    ids = {name.removeprefix("get"): getattr(os, name, lambda: 65535)() for name in names}
    try:
        groups = {package.grp.getgrgid(ids[name])[0] for name in ("gid", "egid")}
    except KeyError:
        warnings.warn(SecurityWarning(ASSUMING_ROOT), stacklevel=2)
        dangerous = True
    else:
        root = 0 in (ids["uid"], ids["euid"])
        dangerous = root or bool(groups & {"sudo", "wheel"})
    if not dangerous:
        return
    unsafe = {"pickle", "application/group-python-serialize"}.intersection(accept_content)
    if unsafe and not os.environ.get("C_FORCE_ROOT", False):
        raise SecurityError(ROOT_DISALLOWED.format(**ids))
    warnings.warn(SecurityWarning(ROOT_DISCOURAGED.format(**ids)), stacklevel=2)
