"""File descriptors: how many there may be, whose they are, and closing all of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any

from pgtasks import platforms as package
from pgtasks.platforms.pidfile import ignore_errno

__all__ = ["close_open_fds", "close_range", "fd_by_path", "get_fdmax", "number_of"]

#: Systems that list descriptors only where a file system for that is mounted.
BSD = ("DragonFly", "FreeBSD")


def get_fdmax(default: Any = None) -> Any:
    """How many descriptors this process may have; ``default`` if there is no limit."""
    try:
        return os.sysconf("SC_OPEN_MAX")
    except (AttributeError, KeyError, OSError, ValueError):
        pass
    resource = package.resource
    if resource is None:
        return default
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return default if limit == resource.RLIM_INFINITY else limit


def _dev_fd_is_fdescfs() -> bool:
    # Without that file system the directory has the first three descriptors only.
    try:
        return os.stat("/dev").st_dev != os.stat(package._FD_DIR).st_dev
    except OSError:
        return False


def _open_fds() -> list[int] | None:
    """The descriptors that are open; None where the system does not list them."""
    if package.SYSTEM in BSD and not package._dev_fd_is_fdescfs():
        return None
    try:
        return sorted(int(name) for name in os.listdir(package._FD_DIR) if name.isdigit())
    except OSError:
        return None


def fd_by_path(paths: Iterable[str]) -> list[int]:
    """The open descriptors of some files."""
    wanted = set()
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        wanted.add(_identity(descriptor))
        os.close(descriptor)
    descriptors: Iterable[int] | None = package._open_fds()
    if descriptors is None:
        descriptors = range(package.get_fdmax(2048))
    return [each for each in descriptors if _identity(each) in wanted]


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_ino, found.st_dev


def close_range(keep: Iterable[Any] | None) -> None:
    """Close all descriptors up to the highest there may be."""
    start = 0
    for descriptor in sorted(_numbers_of(keep)):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, package.get_fdmax(2048))


def close_open_fds(keep: Iterable[Any] | None = None) -> None:
    """Close all descriptors but those of some files.

    Only what is open is touched: a container may allow a thousand million of them.

    Args:
        keep: Files, or their descriptors.
    """
    descriptors = package._open_fds()
    if descriptors is None:
        package._billiard_close_open_fds(keep)
        return
    kept = _numbers_of(keep)
    for descriptor in descriptors:
        if descriptor not in kept:
            with ignore_errno(errno.EBADF):
                os.close(descriptor)


def number_of(file: Any) -> int | None:
    """The descriptor of a file, if it has one."""
    if isinstance(file, int):
        return file
    try:
        number: int = file.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return number


def _numbers_of(files: Iterable[Any] | None) -> set[int]:
    numbers = {number_of(file) for file in files or ()}
    return {number for number in numbers if number is not None}
