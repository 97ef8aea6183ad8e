"""What tells one start of a worker from every other, on this machine and elsewhere."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path

__all__ = [
    "NOT_OURS",
    "boottime",
    "die_with_parent",
    "is_alive",
    "is_stopped",
    "is_there",
    "machine",
    "process_started",
    "processors",
]

NOT_OURS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1,
    signal.SIGUSR2,
)  # fmt: skip
"""Signals that a terminal or a supervisor sends to all processes of a worker: only the
first of them decides what they mean."""

_PR_SET_PDEATHSIG = 1

if sys.platform == "linux":

    def boottime() -> float:
        """Seconds on a clock that counts the time in suspend too and is never set (R17)."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
else:

    def boottime() -> float:
        """Seconds on the steadiest clock that there is."""
        return time.monotonic()


def machine() -> str:
    """The kernel's boot and the process namespace: where a pid means something (R18)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return f"host:{socket.gethostname()}"
    return f"{boot}:{namespace}"


def process_started(pid: int) -> float:
    """When the process began, in the kernel's ticks; 0 where that cannot be told."""
    fields = _stat(pid)
    return float(fields[19]) if fields else 0.0


def is_alive(pid: int, started: float) -> bool:
    """Whether that very process still lives on this machine; a zombie does not."""
    if not started:
        return True
    fields = _stat(pid)
    return bool(fields) and float(fields[19]) == started and fields[0] not in ("Z", "X")


def is_there(pid: int) -> bool:
    """Whether a process is seen that can still do something; a zombie cannot."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in ("Z", "X")


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped (SIGSTOP, a debugger) and so does not work."""
    fields = _stat(pid)
    return bool(fields) and fields[0] in ("T", "t")


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat behind the name, which may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def processors(wanted: int | str | None) -> int:
    """How many jobs to run at a time: as ``wanted``, else one for each processor.

    ``auto`` counts the processors that this process may use.
    """
    if str(wanted).strip().lower() == "auto" and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return int(wanted) if wanted and str(wanted).isdigit() else os.cpu_count() or 1
