"""Copies of PostgreSQL's programs, for an account that cannot reach the programs themselves.

Two locks keep them. Whoever makes or takes one holds the folder's lock shared meanwhile, so
that who has it exclusively may remove: nobody is about to use what is there. And a server
holds the copy that it runs from, by an open file which its processes inherit, so that the
hold ends with the last of them however they die.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pgtasks.dev.accounts import system_folder

__all__ = ["hold_copy"]

_PREFIX = "bin-"
_LOCK = "bin.lock"
_SOURCE = ".source"  # in a copy: the folder with the programs that it was made of


def hold_copy(source: Path, root: Path, parts: Sequence[Path]) -> tuple[Path, int]:
    """Copy an installation, if that has not been done, and hold the copy.

    Copies of installations that are gone are removed before another one is made.

    Args:
        source: The folder with ``postgres``.
        root: What stays behind of the paths.
        parts: The folders to copy, all in ``root``.

    Returns:
        Where the programs are in the copy, and the descriptor by which it is held.
    """
    system = system_folder()
    copy = system / _name(source)
    if not copy.is_dir():
        _prune(system)
    with _locked(system, fcntl.LOCK_SH):
        if not copy.is_dir():
            _make(copy, source, root, parts)
        _record(copy, source)
        # Not to be waited for: to lock it otherwise takes the folder's lock.
        hold = _open_note(copy)
        fcntl.flock(hold, fcntl.LOCK_SH)
    return copy / source.relative_to(root), hold


def _name(source: Path) -> str:
    """The name of its copy, which is another one after an upgrade.

    Raises:
        FileNotFoundError: The programs are gone.
    """
    program = (source / "postgres").stat()
    text = f"{source}\0{program.st_mtime_ns}\0{program.st_size}"
    return _PREFIX + hashlib.sha256(text.encode()).hexdigest()[:12]


def _make(copy: Path, source: Path, root: Path, parts: Sequence[Path]) -> None:
    # Copied beside and renamed: of several processes that start at once one wins, and
    # nobody ever sees half a copy.
    scratch = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
    try:
        for part in parts:
            shutil.copytree(
                part,
                scratch / part.relative_to(root),
                symlinks=True,
                ignore=shutil.ignore_patterns("include", "doc", "man"),
                dirs_exist_ok=True,
            )
        _record(scratch, source)
        for parent, _, files in os.walk(scratch):
            _open_to_readers(parent)
            for file in files:
                _open_to_readers(os.path.join(parent, file))
        scratch.rename(copy)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if not (isinstance(error, OSError) and copy.is_dir()):
            raise


def _record(copy: Path, source: Path) -> None:
    """Note what the copy was made of, if that is not there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(copy / _SOURCE, flags, 0o644), "wb") as note:
        if not os.fstat(note.fileno()).st_size:
            note.write(os.fsencode(source))


def _open_note(copy: Path) -> int:
    # Whoever gets this descriptor may hold the copy, and not write into root's folder.
    return os.open(copy / _SOURCE, os.O_RDONLY | os.O_NOFOLLOW)


def _open_to_readers(path: str) -> None:
    if not os.path.islink(path):
        mode = os.stat(path).st_mode & 0o777
        os.chmod(path, (mode | 0o444 | (0o111 if mode & 0o100 else 0)) & ~0o022)


# ── removing ────────────────────────────────────────────────────────────────────────────


def _prune(system: Path) -> None:
    """Remove the copies that nobody can want, unless somebody is at work on one."""
    with (
        contextlib.suppress(BlockingIOError),
        _locked(system, fcntl.LOCK_EX | fcntl.LOCK_NB),
    ):
        for folder in system.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                # What has a suffix was being made or removed by a process that died.
                if folder.suffix:
                    shutil.rmtree(folder)
                elif _is_stale(folder) and _is_free(folder):
                    # Renamed first: half a copy must not be taken for a whole one.
                    shutil.rmtree(folder.rename(f"{folder}.gone"))


def _is_stale(copy: Path) -> bool:
    """Whether the programs that it was made of have been removed or replaced.

    One without a note is left alone: nothing tells what it was made of.
    """
    source = (copy / _SOURCE).read_bytes()
    try:
        return bool(source) and _name(Path(os.fsdecode(source))) != copy.name
    except (FileNotFoundError, NotADirectoryError):
        return True


def _is_free(copy: Path) -> bool:
    note = _open_note(copy)
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(note)
    return True


@contextlib.contextmanager
def _locked(system: Path, how: int) -> Iterator[None]:
    lock = os.open(system / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)
