"""Parents, orphans and leftovers: what the supervisor asks of the operating system."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

Prctl = Callable[[int, int], int]

_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36


def find_prctl() -> Prctl | None:
    """Linux's ``prctl``, resolved early: a child between fork and exec must not import."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        prctl: Prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return prctl


def tie_to_parent(prctl: Prctl | None, number: int) -> Callable[[], None] | None:
    """What a child of this process does before exec: get ``number`` when we die.

    Must run after a change of the user id, which clears the setting.
    """
    if prctl is None:
        return None
    tie, parent = prctl, os.getpid()

    def before_exec() -> None:
        tie(_SET_DEATH_SIGNAL, number)
        if os.getppid() != parent:  # died before we could be tied to it
            os._exit(1)

    return before_exec


def adopt_orphans(prctl: Prctl | None) -> None:
    """Become the parent of the backends that a dead postmaster leaves behind."""
    if prctl is not None:
        prctl(_SET_SUBREAPER, 1)


def children() -> list[int]:
    """Our children's process ids, zombies included; none where the system does not tell."""
    try:
        return list(map(int, read(f"/proc/self/task/{os.getpid()}/children").split()))
    except OSError:
        return []


def end_leftovers(data: str, patience: float = 10.0) -> None:
    """End the server in ``data`` whose supervisor was killed; by then it is ending itself.

    The kernel has told the postmaster so (on macOS nobody has), and its backends follow it
    unless they are busy. Who must be killed leaves shared memory behind, so first wait.
    """
    asked = False
    beginning = time.monotonic()
    while left := _processes_in(data):
        waited = time.monotonic() - beginning
        if waited > 2 * patience:
            return  # PostgreSQL will say what is in its way
        postmaster = _postmaster_of(data)
        if postmaster in left and not asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGINT)
            asked = True
        elif waited > (patience if postmaster in left else 1):
            for orphan in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
        time.sleep(0.01)


def _postmaster_of(data: str) -> int:
    try:
        return int(read(data + "/postmaster.pid").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def read(path: str) -> str:
    """The text of a small file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def same_file(descriptor: int, path: str) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def fate(status: int) -> str:
    """How a process ended, in words."""
    return f"exit status {status}" if status >= 0 else f"signal {-status}"


def _processes_in(data: str) -> list[int]:
    """The processes of the server in ``data``; on Linux all of them, they work in there."""
    if not os.path.isdir("/proc/self"):
        listing = subprocess.run(
            ["ps", "-axww", "-o", "pid=,command="], capture_output=True, check=False
        ).stdout.decode(errors="replace")
        return [
            int(row.split()[0]) for row in listing.splitlines() if f" -D {data} " in row
        ]
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # Whoever reads the files in that folder with a shell is none of them.
        with contextlib.suppress(OSError):
            at_home = os.readlink(f"/proc/{pid}/cwd") == data
            if at_home and read(f"/proc/{pid}/comm").startswith("postgres"):
                found.append(int(pid))
    return found
