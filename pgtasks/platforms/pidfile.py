"""Files that say which process does a job, so that no second one does it as well."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LockFailed", "Pidfile", "get_errno_name", "ignore_errno"]

PIDFILE_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY
PIDFILE_MODE = 0o644


class LockFailed(Exception):
    """A pid file cannot be written: it exists, or its directory cannot be written to."""


def get_errno_name(n: int | str) -> int:
    """The number of an error of the system, given by its name or number."""
    if isinstance(n, str):
        number: int = getattr(errno, n)
        return number
    return n


@contextmanager
def ignore_errno(*errnos: int | str, **kwargs: Any) -> Iterator[None]:
    """Ignore some errors of the system inside the block.

    Args:
        *errnos: Their names or numbers: ``ignore_errno("ENOENT")``.
        **kwargs: ``types``, the exceptions to look at; all by default.
    """
    types = kwargs.get("types") or (Exception,)
    ignored = {get_errno_name(each) for each in errnos}
    try:
        yield
    except types as error:
        if getattr(error, "errno", None) not in ignored:
            raise


class Pidfile:
    """A pid file, which can be held by a ``with`` statement.

    Args:
        path: Where it is.
    """

    path: str = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)

    def acquire(self) -> Pidfile:
        """Write the file.

        Raises:
            LockFailed: It exists, or cannot be written.
        """
        try:
            self.write_pid()
        except OSError as error:
            raise LockFailed(str(error)) from error
        return self

    __enter__ = acquire

    def release(self, *args: object) -> None:
        """Remove the file."""
        self.remove()

    __exit__ = release

    def is_locked(self) -> bool:
        """Whether the file exists."""
        return os.path.exists(self.path)

    def read_pid(self) -> int | None:
        """The process that the file names; None if there is no file.

        Raises:
            ValueError: It names none.
        """
        try:
            with open(self.path) as file:
                line = file.readline()
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        if not line.endswith("\n"):
            raise ValueError(f"The pid file {self.path} is cut off: {line!r}.")
        try:
            return int(line)
        except ValueError:
            raise ValueError(
                f"The pid file {self.path} holds no number: {line!r}."
            ) from None

    def remove(self) -> None:
        """Remove the file, if it exists and we may."""
        with ignore_errno(errno.ENOENT, errno.EACCES):
            os.unlink(self.path)

    def remove_if_stale(self) -> bool:
        """Remove the file if the process that it names does not run.

        Returns:
            Whether it was removed.
        """
        try:
            pid = self.read_pid()
        except ValueError:
            print("Broken pidfile found - Removing it.", file=sys.stderr)
            self.remove()
            return True
        # In a container each program is process 1: the file is one's own, of last time.
        if not pid or pid == os.getpid():
            self.remove()
            return True
        if _runs(pid):
            return False
        print("Stale pidfile exists - Removing it.", file=sys.stderr)
        self.remove()
        return True

    def write_pid(self) -> None:
        """Write the file, and make sure that it is there.

        Raises:
            LockFailed: It reads differently from what was written.
            OSError: It exists, or cannot be written.
        """
        text = f"{os.getpid()}\n"
        descriptor = os.open(self.path, PIDFILE_FLAGS, PIDFILE_MODE)
        file = os.fdopen(descriptor, "w")
        try:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        finally:
            file.close()
        with open(self.path) as file:
            if file.read() != text:
                raise LockFailed(f"{self.path} does not hold what was written to it.")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        # EPERM: it is somebody else's by now, as ours would let us ask.
        return error.errno not in (errno.ESRCH, errno.EPERM)
    except SystemError:
        # Windows, for a process that is no more.
        return False
    return True
