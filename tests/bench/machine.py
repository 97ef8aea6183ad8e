"""What the kernel knows: processor time and memory of process trees; the machine."""

from __future__ import annotations

import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Memory", "busy", "cpu", "describe", "disk", "listener", "memory", "processes"]

_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Of a process tree, in bytes; PSS divides a page by the processes that share it."""

    pss: int
    rss: int


class _Process(NamedTuple):
    parent: int
    session: int
    cpu: float


def cpu(root: int) -> float:
    """Processor seconds of a process tree since its start, ended children included."""
    table = _table()
    return sum(table[pid].cpu for pid in _tree(root, table))


def processes(root: int) -> list[int]:
    """The process, its descendants, and whoever else is in the session that it leads."""
    return _tree(root, _table())


def memory(root: int) -> Memory:
    """The memory of a process tree."""
    pss = rss = 0
    for pid in processes(root):
        with suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            sizes = dict(re.findall(r"^(Pss|Rss): +(\d+) kB", rollup, re.M))
            pss += 1024 * int(sizes["Pss"])
            rss += 1024 * int(sizes["Rss"])
    return Memory(pss, rss)


def busy() -> float:
    """Processor seconds that all processes of this machine have used since it started."""
    user, nice, system, _idle, _wait, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return _TICK * (user + nice + system + sum(interrupts))


def listener(port: int) -> int | None:
    """The process that listens on a TCP port, if we may know."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and int(local.rsplit(":", 1)[1], 16) == port:
                sockets.add(f"socket:[{rest[5]}]")
    for pid in _pids():
        with suppress(OSError):
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(descriptor.path) in sockets:
                    return pid
    return None


def describe() -> dict[str, str]:
    """The machine in the words of a reader who wants to compare it with theirs."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    total = re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return {
        "Processor": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        "Memory": f"{int(total[1]) / 2**20:.0f} GiB" if total else "unknown",
        "System": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }


def disk(folder: Path) -> str:
    """The file system of a folder, and what it costs to write to it for good.

    A commit waits for that: on a disk of 2 ms, single inserts are many times slower than
    on one of 50 µs, and batches are not.
    """
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = {str(each) for each in (folder, *folder.parents)}
    kind = max((len(at), kind) for at, kind in mounts if at in above)[1]
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(100):
            file.write(bytes(8192))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return f"{kind}, fdatasync of 8 kB in {1e6 * statistics.median(took):.0f} µs"


def _table() -> dict[int, _Process]:
    table = {}
    for pid in _pids():
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            # The second field is the program's name, which may hold anything.
            _state, parent, _group, session, *rest = stat[stat.rindex(")") + 2 :].split()
            ticks = sum(map(int, rest[7:11]))  # utime, stime, and those of ended children
            table[pid] = _Process(int(parent), int(session), _TICK * ticks)
    return table


def _tree(root: int, table: dict[int, _Process]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
        if process.session == root != pid:
            # A child whose parent has ended belongs to another one now.
            children.setdefault(root, []).append(pid)
    found: dict[int, None] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        if pid in table and pid not in found:
            found[pid] = None
            waiting += children.get(pid, [])
    return list(found)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())
