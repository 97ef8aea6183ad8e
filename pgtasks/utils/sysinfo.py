"""What the machine has for us: processors, load, disk."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

__all__ = [
    "AUTO_CONCURRENCY",
    "CpuBudget",
    "available_cpu_count",
    "cgroup_cpu_quota",
    "cpu_budget",
    "df",
    "is_auto_concurrency",
    "load_average",
]

#: The value of ``--concurrency`` that stands for `cpu_budget`.
AUTO_CONCURRENCY = "auto"

CGROUP_ROOT = "/sys/fs/cgroup"
PROC_SELF_CGROUP = "/proc/self/cgroup"


def is_auto_concurrency(value: object) -> bool:
    """Whether a concurrency is to be found out: ``auto``, however it is spelled."""
    return isinstance(value, str) and value.strip().lower() == AUTO_CONCURRENCY


def available_cpu_count() -> int:
    """How many processors this process may run on; 2 if nobody knows."""
    count = None
    if hasattr(os, "process_cpu_count"):
        count = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        try:
            count = len(os.sched_getaffinity(0))
        except OSError:
            pass
    return count or os.cpu_count() or 2


class CpuBudget(NamedTuple):
    """What `cpu_budget` found.

    Attributes:
        count: How many jobs to run at a time.
        available: How many processors there are for this process.
        quota: How many of them its container may keep busy; None without a limit.
    """

    count: int  # type: ignore[assignment]
    available: int
    quota: float | None


def cpu_budget(use_cgroup_quota: bool = True) -> CpuBudget:
    """How many processors this process should count on.

    A container shows all processors of its host, however little of them it may use.
    A part of a processor counts as one, so that none of the quota is left over.

    Args:
        use_cgroup_quota: Ask for that limit; jobs that wait more than they compute need
            not care about it.
    """
    available = available_cpu_count()
    quota = cgroup_cpu_quota() if use_cgroup_quota else None
    if quota is None:
        return CpuBudget(available, available, None)
    return CpuBudget(max(1, min(available, math.ceil(quota))), available, quota)


# ── control groups ──────────────────────────────────────────────────────────────────────


def cgroup_cpu_quota() -> float | None:
    """How many processors the control groups of this process allow it; None without limit.

    A limit of any group on the way to the root counts, so the lowest one does. Both
    versions of control groups are looked at, the second first.
    """
    v2, v1, mount = _cgroup_paths()
    if v2 is None and v1 is None:
        # In a container that does not tell, the root is its own group.
        v2 = v1 = "/"
    if v2 is not None:
        quota = _lowest(CGROUP_ROOT, v2, _read_v2_quota)
        if quota is not None:
            return quota
    if v1 is not None:
        # Named after all its controllers; "cpu" is a link that not every host has.
        for name in dict.fromkeys((mount, "cpu")):
            quota = _lowest(posixpath.join(CGROUP_ROOT, name), v1, _read_v1_quota)
            if quota is not None:
                return quota
    return None


def _cgroup_paths() -> tuple[str | None, str | None, str]:
    """This process's group in version 2, that in version 1, and where that is mounted."""
    v2 = v1 = None
    mount = "cpu"
    for line in (_read_text(PROC_SELF_CGROUP) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if number == "0" and not controllers:
            v2 = path
        elif "cpu" in controllers.split(","):
            v1, mount = path, controllers
    return v2, v1, mount


def _lowest(
    base: str, path: str, read: Callable[[str], tuple[str, str] | None]
) -> float | None:
    return min(_quotas(base, path, read), default=None)


def _quotas(
    base: str, path: str, read: Callable[[str], tuple[str, str] | None]
) -> Iterator[float]:
    for group in _ancestors(path):
        found = read(posixpath.join(base, group.lstrip("/")))
        quota = _processors(*found) if found else None
        if quota is not None:
            yield quota


def _ancestors(path: str) -> list[str]:
    """A group and those above it, the root last."""
    # Seen from inside a container it may begin with "/..".
    groups = [posixpath.normpath("/" + path.lstrip("/"))]
    while groups[-1] != "/":
        groups.append(posixpath.dirname(groups[-1]))
    return groups


def _processors(quota: str, period: str) -> float | None:
    try:
        microseconds, of_each = int(quota), int(period)
    except ValueError:
        # "max", in version 2.
        return None
    if microseconds <= 0 or of_each <= 0:
        # -1, in version 1.
        return None
    return microseconds / of_each


def _read_v2_quota(group: str) -> tuple[str, str] | None:
    words = (_read_text(posixpath.join(group, "cpu.max")) or "").split()
    return (words[0], words[1]) if len(words) == 2 else None


def _read_v1_quota(group: str) -> tuple[str, str] | None:
    quota = _read_text(posixpath.join(group, "cpu.cfs_quota_us"))
    period = _read_text(posixpath.join(group, "cpu.cfs_period_us"))
    return None if quota is None or period is None else (quota, period)


def _read_text(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


# ── load and disk ───────────────────────────────────────────────────────────────────────


def load_average() -> tuple[float, ...]:
    """How many processes wanted to run, over the last 1, 5 and 15 minutes."""
    if not hasattr(os, "getloadavg"):
        return (0.0, 0.0, 0.0)
    return tuple(math.ceil(load * 100) / 100 for load in os.getloadavg())


class df:
    """How full the disk is that a path is on.

    Args:
        path: The path.
    """

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        self.path = path

    @property
    def total_blocks(self) -> float:
        """Kilobytes that it has."""
        return self.stat.f_blocks * self.stat.f_frsize / 1024

    @property
    def available(self) -> float:
        """Kilobytes that are left for ordinary users."""
        return self.stat.f_bavail * self.stat.f_frsize / 1024

    @property
    def capacity(self) -> int:
        """Per cent of it that are used, as ``df`` rounds them."""
        used = self.stat.f_blocks - self.stat.f_bfree
        return math.ceil(used * 100.0 / (used + self.stat.f_bavail) + 0.5)

    @cached_property
    def stat(self) -> os.statvfs_result:
        """What the system tells of it."""
        return os.statvfs(os.path.abspath(self.path))
