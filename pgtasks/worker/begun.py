"""Which jobs were begun: a small file that outlives the process that wrote it.

A job that was claimed and not begun may always run elsewhere; one that was begun
may not, unless it was declared safe to run again. After a SIGKILL nobody is left to
tell the two apart, so whoever runs a job notes its id here first. The note costs a
tenth of a microsecond and lies in the page cache, where another process of the same
machine finds it (R18). A machine that is lost takes the file along; then everything
that was claimed counts as begun.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import tempfile
import time
from pathlib import Path
from uuid import UUID

from pgtasks.worker.identity import boottime

__all__ = [
    "BegunFile",
    "Slot",
    "Slots",
    "begun_path",
    "is_abandoned",
    "read_begun",
    "remove_leftovers",
    "signs_of_life",
]

RING = 4096
"""Ids that a slot remembers; nobody may have more jobs unsettled than this."""

_HEADER = 8
_ID = 8 * 3  # words 3 and 4
_USED = 7  # how many slots there have been; 0 in files of older workers: all
_SLOT = 3 + RING


class BegunFile:
    """The file of one worker: a header of shared facts, and a slot for each executor.

    Args:
        worker: Id of the worker, which names the file.
        slots: How many executors may note jobs at a time. The file is sparse: those that are
            never used cost nothing.
    """

    def __init__(self, worker: str, slots: int) -> None:
        self.path = begun_path(worker)
        self.slots = slots
        self._paths: set[Path] = set()
        size = 8 * (_HEADER + slots * _SLOT)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(descriptor, size)
        self._map = mmap.mmap(descriptor, size)
        # Held by every process of this worker, for forks inherit it: whoever can lock
        # the file knows that none of them is left to begin another job.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        self._descriptor = descriptor
        self._words = memoryview(self._map).cast("q")
        self._times = memoryview(self._map).cast("d")
        self.rename(worker)

    @property
    def renewed_at(self) -> float:
        """When the lease was last renewed, on `boottime`."""
        return self._times[0]

    @renewed_at.setter
    def renewed_at(self, moment: float) -> None:
        self._times[0] = moment

    @property
    def turned_at(self) -> float:
        """When the worker's main loop last turned, on `boottime`."""
        return self._times[1]

    @turned_at.setter
    def turned_at(self, moment: float) -> None:
        self._times[1] = moment

    @property
    def condemned(self) -> bool:
        """Whether the heartbeat found this worker declared dead."""
        return bool(self._words[2])

    @condemned.setter
    def condemned(self, verdict: bool) -> None:
        self._words[2] = int(verdict)

    @property
    def watched(self) -> bool:
        """Whether somebody wants to be told what tasks return and raise."""
        return bool(self._words[6])

    @watched.setter
    def watched(self, wanted: bool) -> None:
        self._words[6] = int(wanted)

    @property
    def worker(self) -> str:
        """Id of the present incarnation; it changes when a worker was given up (R16)."""
        return str(UUID(bytes=self._map[_ID : _ID + 16]))

    def rename(self, worker: str) -> None:
        """Go on under a new id. Notes made under the old one stay where they are."""
        path = begun_path(worker)
        if path != self.path:
            try:
                os.link(self.path, path)
            except FileNotFoundError:
                pass  # somebody tidied up: what is claimed will count as begun
        self._paths.add(path)
        self._words[5] += 1
        self._map[_ID : _ID + 16] = UUID(worker).bytes
        self.path = path

    @property
    def incarnation(self) -> int:
        """Counts the ids; a job that was claimed under an earlier one is not ours."""
        return self._words[5]

    def may_begin(self, incarnation: int, lease: float) -> bool:
        """Whether a job claimed by ``incarnation`` may begin now (R17).

        To be asked after the job was noted: a process that is stopped between the
        question and the job has then left the note that it began.
        """
        fresh = boottime() - self._times[0] <= 0.8 * lease
        return fresh and self._words[5] == incarnation and not self._words[2]

    def slot(self, number: int) -> Slot:
        """The notes of one executor."""
        start = _HEADER + number * _SLOT
        # Readers look no further, and what nobody has touched takes no room on the disk.
        # Not written without need: a child must not undo what its parent writes.
        if self._words[_USED] <= number:
            self._words[_USED] = number + 1
        return Slot(number, self._words[start : start + _SLOT])

    def busy(self) -> bool:
        """Whether any executor is running a job now."""
        return any(
            self._words[_HEADER + number * _SLOT + 1]
            for number in range(self._words[_USED])
        )

    def close(self) -> None:
        """Let go of the file in this process."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Delete the file, under all its names; what is mapped stays usable."""
        for path in self._paths:
            path.unlink(missing_ok=True)


class Slots:
    """The slots of a file, for executors that come and go: what comes back is used again first.

    Args:
        begun: The file.
    """

    def __init__(self, begun: BegunFile) -> None:
        self._begun = begun
        self._free: list[Slot] = []
        self._given = 0

    def take(self) -> Slot:
        """One that nobody uses."""
        if self._free:
            return self._free.pop()
        self._given += 1
        return self._begun.slot(self._given - 1)

    def give_back(self, slot: Slot) -> None:
        """It is not used any more."""
        self._free.append(slot)


class Slot:
    """One executor's notes: what it runs now, and what it has begun lately."""

    __slots__ = ("_words", "number")

    def __init__(self, number: int, words: memoryview) -> None:
        self.number = number
        self._words = words

    def begin(self, job: int) -> None:
        """Note that ``job`` begins. It must be called before anything of it runs."""
        words = self._words
        count = words[0]
        words[3 + count % RING] = job
        words[1] = job
        words[0] = count + 1

    def end(self) -> None:
        """Note that nothing runs now."""
        self._words[1] = 0

    @property
    def running(self) -> int:
        """Id of the job that runs now, or 0."""
        return int(self._words[1])

    @property
    def last(self) -> int:
        """Id of the job that was begun last, or 0."""
        count = self._words[0]
        return int(self._words[3 + (count - 1) % RING]) if count else 0

    @property
    def soft_limit_for(self) -> int:
        """The job that a soft time limit signal is meant for."""
        return int(self._words[2])

    @soft_limit_for.setter
    def soft_limit_for(self, job: int) -> None:
        # The signal may arrive when its job is over and another one runs.
        self._words[2] = job


def begun_path(worker: str) -> Path:
    """Where the worker with this id keeps its notes, if it runs on this machine.

    Raises:
        PermissionError: The folder belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"pgtasks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(
            f"{folder} belongs to somebody else, so pgtasks will not write there. "
            f"Remove it, or set TMPDIR to a folder of your own."
        )
    return folder / f"{worker}.begun"


def read_begun(worker: str) -> set[int] | None:
    """The ids that a dead worker had begun lately, or None if its file is not here."""
    try:
        with open(begun_path(worker), "rb") as file:
            content = file.read(8 * _HEADER)
            used = memoryview(content).cast("q")[_USED]
            content += file.read(8 * used * _SLOT if used else -1)
    except OSError:
        return None
    words = memoryview(content).cast("q")
    begun: set[int] = set()
    for start in range(_HEADER, len(words), _SLOT):
        count = min(words[start], RING)
        begun.update(words[start + 3 : start + 3 + count])
    return begun


def is_abandoned(worker: str) -> bool | None:
    """Whether no process of that worker is left; None if its file is not here."""
    try:
        descriptor = os.open(begun_path(worker), os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove_leftovers() -> None:
    """Delete files of workers that died a day ago or longer: nobody will ask for them."""
    yesterday = time.time() - 24 * 3600
    for path in begun_path("x").parent.glob("*.begun"):
        try:
            if path.stat().st_mtime < yesterday and is_abandoned(path.stem):
                path.unlink()
        except OSError:
            continue


def signs_of_life() -> list[tuple[str, float]]:
    """The workers of this user on this machine, and seconds since each looked for jobs.

    A worker whose processes have all ended is none. One whose own thread runs a job may be
    kept from looking by that, and counts as long as it renews its lease.
    """
    found: dict[int, tuple[str, float]] = {}
    now = boottime()
    for path in begun_path("x").parent.glob("*.begun"):
        try:
            # A worker that was given up once has a file of two names.
            number = path.stat().st_ino
            if is_abandoned(path.stem) is not False or number in found:
                continue
            content = path.read_bytes()
        except OSError:
            continue
        if len(content) < 8 * _HEADER:
            continue  # it has just been made
        words = memoryview(content).cast("q")
        renewed, turned = memoryview(content).cast("d")[:2].tolist()
        busy = any(words[start + 1] for start in range(_HEADER, len(words), _SLOT))
        worker = str(UUID(bytes=content[_ID : _ID + 16]))
        found[number] = (worker, now - max(turned, renewed if busy else 0.0))
    return sorted(found.values())
