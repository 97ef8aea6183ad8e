"""Where an embedded server keeps its files, so that all of a project find them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pgtasks.dev import EmbeddedPostgresError
from pgtasks.dev.accounts import Account, can_enter, stand_in_for_root, system_folder

__all__ = ["Place", "default_folder", "occupy", "occupy_temporary", "write"]

_MARKS = (".pgtasks", "pyproject.toml", "manage.py", "setup.py", ".git")
_POINTER = "location"  # left in a folder whose files had to go elsewhere,
_ORIGIN = ".origin"  # and where they went: the folder they are for
_PASSING = ("/tmp/", "/var/tmp/", "/dev/shm/", tempfile.gettempdir() + "/")  # noqa: S108
TEMPORARY = "pgtasks-private-"


@dataclass(frozen=True)
class Place:
    """The folder of one server, and the account that owns it when we are root."""

    folder: Path
    account: Account | None

    @property
    def uid(self) -> int:
        """The user id that the server runs under."""
        return self.account.uid if self.account else os.geteuid()

    @property
    def data(self) -> Path:
        """The database cluster (PostgreSQL's ``PGDATA``)."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What server and supervisor have to say."""
        return self.folder / "postgres.log"

    @property
    def users_lock(self) -> Path:
        """Held shared by each process that uses the server."""
        return self.folder / "users.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.folder / "supervisor.lock"

    @property
    def status(self) -> Path:
        """What the supervisor last said about its server."""
        return self.folder / "status.json"


def default_folder() -> Path:
    """The folder of the server that the current directory's project shares.

    ``PGTASKS_DATA_DIR``, else ``.pgtasks/postgres`` in the project: the nearest folder from
    here upwards that looks like one, else this folder itself. Where nothing can be written,
    a folder of its own in the user's data directory.
    """
    named = os.environ.get("PGTASKS_DATA_DIR")
    if named:
        return Path(named).expanduser().absolute()
    project = _project()
    private = project / ".pgtasks"
    if _make_private(private):
        return private / "postgres"
    # One folder for each project: two programs must not find each other's jobs by chance.
    name = f"{project.name or 'root'}-{_digest(project)}"
    for home in _user_folders():
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue  # a service account often has no home
        found = home.lstat()
        if found.st_uid == os.geteuid() and os.access(home, os.W_OK):
            return home / name / "postgres"
    raise EmbeddedPostgresError(
        f"There is no folder to keep the embedded PostgreSQL's data in: neither {project} "
        f"nor {' nor '.join(map(str, _user_folders()))} can be written. "
        f"Set PGTASKS_DATA_DIR to one that can."
    )


def occupy(folder: Path) -> Place:
    """Make ``folder`` ready to hold a server, or find where its files went.

    Raises:
        EmbeddedPostgresError: It belongs to somebody else or cannot be made.
    """
    try:
        folder = folder.resolve()
        if os.geteuid() == 0:
            return _occupy_as_root(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if owner == os.geteuid():
            _refuse_strangers_files(folder)
            folder.chmod(0o700)  # the folder's mode is what keeps other accounts out
            return Place(folder, None)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL cannot keep its data in {folder}: {error.strerror}. "
            f"Set PGTASKS_DATA_DIR to a folder that you can write."
        ) from error
    raise EmbeddedPostgresError(
        f"The embedded PostgreSQL's folder {folder} belongs to the user id {owner}, and "
        f"you are {os.geteuid()}: a server is shared by the processes of one user. Set "
        f"PGTASKS_DATA_DIR to a folder of your own, or remove that one."
    )


def occupy_temporary() -> Place:
    """A new folder for a server that is thrown away."""
    if os.geteuid() != 0:
        return Place(Path(tempfile.mkdtemp(prefix=TEMPORARY)), None)
    account = stand_in_for_root(Path("/"))
    # The stand-in can enter /tmp, but hardly a TMPDIR of root's own.
    parent = Path(tempfile.gettempdir())
    if not can_enter(parent, account):
        parent = Path("/tmp")  # noqa: S108 - mkdtemp is safe in it
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
    os.chown(folder, account.uid, account.gid)
    return Place(folder, account)


def write(path: Path, text: str) -> None:
    """Write a file at once; it belongs to its folder's owner even when root writes it."""
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    with open(handle, "w", encoding="utf-8") as scratch:
        scratch.write(text)
        own(handle, path.parent)
    os.replace(name, path)


def own(descriptor: int, folder: Path) -> None:
    """Give an open file to the owner of ``folder``, in which root has just made it."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _occupy_as_root(folder: Path) -> Place:
    pointer = folder / _POINTER
    target = _moved_to(pointer)
    if target is None:
        target = folder
        _make_parents(folder)
        if not (folder / "data").exists() and not _reachable(folder):
            # Opening /root to everybody would do, and is not ours to do.
            folder.mkdir(mode=0o700, exist_ok=True)
            inode = folder.stat().st_ino
            target = system_folder() / f"{_digest(folder)}-{inode}"
            write(pointer, json.dumps({"folder": str(target), "inode": inode}))
            _prune(target.parent)
    account = _account_for(target)
    target.mkdir(mode=0o700, exist_ok=True)
    _refuse_strangers_files(target)
    if target.parent != folder.parent:
        write(target / _ORIGIN, str(folder))
    target.chmod(0o700)
    if target.stat().st_uid != account.uid:
        # New, or copied by root along with its project.
        for parent, folders, files in os.walk(target):
            for name in (*folders, *files):
                os.lchown(os.path.join(parent, name), account.uid, account.gid)
        os.chown(target, account.uid, account.gid)
    return Place(target, account)


def _prune(system: Path) -> None:
    """Remove the data of temporary projects that are gone, such as a test's or a demo's.

    Those of others stay: a project may be on a disk that is not mounted now.
    """
    for folder in system.iterdir():
        with contextlib.suppress(OSError):
            origin = (folder / _ORIGIN).read_text(encoding="utf-8")
            gone = origin.startswith(_PASSING) and not os.path.exists(origin)
            if gone and is_free(folder / "users.lock"):
                shutil.rmtree(folder)


def is_free(lock: Path) -> bool:
    """Whether nobody holds the lock; its file must exist."""
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _refuse_strangers_files(folder: Path) -> None:
    """Make sure that nobody's ``/srv`` or ``$HOME`` changes its mode and owner."""
    names = {name for name in os.listdir(folder) if not name.startswith(".")}
    if names and not names & {"users.lock", _POINTER}:
        raise EmbeddedPostgresError(
            f"{folder} holds {min(names)!r} and no embedded PostgreSQL. Its server needs a "
            f"folder for itself: set PGTASKS_DATA_DIR to a new or an empty one."
        )


def _reachable(folder: Path) -> bool:
    return can_enter(folder.parent, stand_in_for_root(folder))


def _account_for(target: Path) -> Account:
    """Who serves ``target``: the owner of its data, even one without an entry in passwd."""
    for path, final in ((target / "data", True), (target, False)):
        if path.exists() and (owner := path.stat()).st_uid != 0:
            known = Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
            return known if final else stand_in_for_root(path)
    return stand_in_for_root(target.parent)


def _moved_to(pointer: Path) -> Path | None:
    """Where the files went, unless the pointer was copied along with its project.

    A renamed project keeps its folder's inode and its data; a copy of it must not share
    the original's server.
    """
    try:
        moved = json.loads(pointer.read_text(encoding="utf-8"))
        target = Path(moved["folder"])
        if moved["inode"] == pointer.parent.stat().st_ino and target.parent.is_dir():
            return target
    except (OSError, ValueError, TypeError, KeyError):
        pass  # absent or damaged: it is written anew
    return None


def _make_parents(folder: Path) -> None:
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)  # ours, and on the stand-in's way


def _project() -> Path:
    """The nearest folder from here upwards that looks like a project, else this folder."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return Path("/")  # the folder has been removed under us
    home = Path.home() if "HOME" in os.environ else None
    for folder in (here, *here.parents[:-1]):
        try:
            # A mark in everybody's folder (/tmp) or in $HOME with its dotfiles in git says
            # nothing about the project below it.
            if folder != here and (folder == home or folder.stat().st_mode & stat.S_IWOTH):
                break
            if any((folder / mark).exists() for mark in _MARKS):
                return folder
        except PermissionError:
            break
    return here


def _make_private(folder: Path) -> bool:
    """Make ``.pgtasks``, invisible to git; ``False`` where it cannot be ours."""
    if folder.parent == Path("/"):
        return False  # a daemon's working directory is nobody's project
    try:
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                folder.chmod(0o755)  # root's umask may close it to the server's account
                parent = folder.parent.stat()
                os.chown(folder, parent.st_uid, parent.st_gid)
        owner = folder.stat().st_uid
        # Root may work for the project's owner, but not for whoever left it in /tmp.
        for_owner = os.geteuid() == 0 and owner == folder.parent.stat().st_uid
        if owner != os.geteuid() and not for_owner:
            return False
        ignore = folder / ".gitignore"
        if not ignore.exists():
            write(ignore, "*\n")
    except OSError:
        return False
    return True


def _user_folders() -> tuple[Path, ...]:
    spare = Path(f"/var/tmp/pgtasks-{os.geteuid()}")  # noqa: S108 - its owner is checked
    if "HOME" not in os.environ:
        return (spare,)
    if sys.platform == "darwin":
        return (Path.home() / "Library/Application Support/pgtasks", spare)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return (Path(data, "pgtasks"), spare)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
