"""Looking into a running process: its memory, its threads, and what it is stuck in."""

from __future__ import annotations

import gc
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pprint import pprint
from types import FrameType
from typing import Any, TypeVar

from pgtasks.platforms.os_signals import signals
from pgtasks.utils.proxy import try_import

__all__ = [
    "blockdetection",
    "cry",
    "humanbytes",
    "mem_rss",
    "memdump",
    "ps",
    "sample",
    "sample_mem",
]

T = TypeVar("T")

UNITS = ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "KB"), (0, "b"))

Process: Any = getattr(try_import("psutil"), "Process", None)

_process: Any = None
_mem_sample: list[str | None] = []


def _on_blocking(signum: int, frame: FrameType | None) -> None:
    where = inspect.getframeinfo(frame) if frame is not None else "an unknown place"
    raise RuntimeError(f"Blocking detection timed-out at: {where}")


@contextmanager
def blockdetection(timeout: float | None) -> Iterator[None]:
    """Raise an exception if the block takes longer, by way of SIGALRM.

    Args:
        timeout: Seconds; nothing is done if there are none.

    Raises:
        RuntimeError: In the block, where it is then.
    """
    if not timeout:
        yield
        return
    previous = signals["ALRM"]
    signals["ALRM"] = _on_blocking
    try:
        signals.arm_alarm(timeout)
        yield
    finally:
        if previous and previous != _on_blocking:
            signals["ALRM"] = previous
        signals.reset_alarm()


# ── memory ──────────────────────────────────────────────────────────────────────────────


def sample_mem() -> str | None:
    """Note how much memory the process takes, for `memdump`, and answer it."""
    taken = mem_rss()
    _mem_sample.append(taken)
    return taken


def memdump(samples: int = 10, file: Any = None) -> None:
    """Print how much memory the process took when it was noted, and takes now.

    Args:
        samples: How many of the notes to print. They are forgotten then.
        file: Where to; standard output by default.
    """
    if ps() is None:
        print("- rss: (psutil not installed).", file=file)
        return
    noted, now = _memdump(samples)
    if noted:
        print("- rss (sample):", file=file)
        for taken in noted:
            print(f"-    > {taken},", file=file)
    print(f"- rss (end): {now}.", file=file)


def _memdump(samples: int = 10) -> tuple[list[str | None], str | None]:
    few = len(_mem_sample) <= samples
    noted = list(_mem_sample if few else sample(_mem_sample, samples))
    _mem_sample.clear()
    gc.collect()
    return noted, mem_rss()


def sample(x: Sequence[T], n: int, k: int = 0) -> Iterator[T]:
    """Pick ``n`` items of a list at equal distances, beginning with item ``k``."""
    distance = len(x) // n
    yield from (x[k + i * distance] for i in range(n) if k + i * distance < len(x))


def hfloat(f: float, p: int = 5) -> int | str:
    """A number for people: whole ones without a point, others with ``p`` digits."""
    return int(f) if int(f) == f else f"{f:.{p}}"


def humanbytes(s: float) -> str:
    """A number of bytes for people: ``64KB``."""
    size, unit = next((size, unit) for size, unit in UNITS if s >= size)
    return f"{hfloat(s / size if size else s)}{unit}"


def mem_rss() -> str | None:
    """How much memory the process takes, for people; None if psutil is not installed."""
    process = ps()
    return None if process is None else humanbytes(process.memory_info().rss)


def ps() -> Any:
    """This process as psutil sees it; None if that is not installed."""
    global _process
    if _process is None and Process is not None:
        _process = Process(os.getpid())
    return _process


# ── threads ─────────────────────────────────────────────────────────────────────────────


def cry(out: Any = None, sepchr: str = "=", seplen: int = 49) -> Any:
    """Write down where all threads are, and with which local variables.

    Args:
        out: A file with ``getvalue``.
        sepchr: What lines between threads are made of.
        seplen: And how long they are.

    Returns:
        What was written.
    """
    out = StringIO() if out is None else out
    line = sepchr * seplen
    threads = {thread.ident: thread for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        thread = threads.get(ident)
        if thread is None:
            # Of the parent process; it was not forked along.
            continue
        print(thread.name, line, sep="\n", file=out)
        traceback.print_stack(frame, file=out)
        print(line, "LOCAL VARIABLES", line, sep="\n", file=out)
        pprint(frame.f_locals, stream=out)
        print("\n", file=out)
    return out.getvalue()
