"""Where the suite is run: outside of the repository, kept from one run to the next.

A source package is downloaded for its tests, and never installed, nor is Celery: an
import of Celery that pgtasks does not serve has to fail.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat.conformance.packages import CELERY, Package

__all__ = ["Trouble", "Workshop", "read_toml"]

REPOSITORY = Path(__file__).resolve().parents[2]


class Trouble(Exception):
    """The workshop cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Workshop:
    """A directory with the suite, a virtual environment, and a copy of pgtasks."""

    path: Path
    python: Path
    drop_to: int | None = None  # user id to run tests as
    package: Package = CELERY

    @property
    def suite(self) -> Path:
        return self.path / "suite"

    @property
    def source(self) -> Path:
        return self.path / "source"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @classmethod
    def open(cls, package: Package = CELERY, *, fresh: bool = False) -> Workshop:
        """Make the workshop of a package, or bring it up to date."""
        os.umask(0o022)  # for the user that we may drop to
        path = _place(package)
        _take(path)
        if fresh:
            for part in path.iterdir():
                shutil.rmtree(part) if part.is_dir() else part.unlink()
            _take(path)
        _fetch_suite(path, package)
        drop_to = _nobody()
        base = _interpreter(drop_to)
        python = _environment(path / "venv", base, package)
        _copy_source(path / "source")
        (path / "logs").mkdir(exist_ok=True)
        if drop_to is not None and not _can_run(python, drop_to):
            print(
                f"Running as root: user {drop_to} cannot reach {python}. Some tests "
                f"refuse root and will fail.",
                file=sys.stderr,
            )
            drop_to = None
        if drop_to is not None:
            _give(path / "suite", drop_to)
        return cls(path, python, drop_to, package)

    def start(
        self, arguments: Sequence[str], environment: dict[str, str], log: Path | None
    ) -> subprocess.Popen[bytes]:
        """Start Python in the suite's directory, as an ordinary user if we are root.

        Without a log we talk with it through pipes.
        """
        inherited = {name: os.environ.get(name) for name in ("PATH", "LANG", "TZ")}
        kept = {name: value for name, value in inherited.items() if value is not None}
        kept.update(HOME=str(self.suite), PYTHONPATH=str(self.source))
        kept.update(environment)
        identity: dict[str, Any] = {}
        if self.drop_to is not None:
            identity = {"user": self.drop_to, "group": _group_of(self.drop_to)}
            identity["extra_groups"] = []
        identity.update(cwd=self.suite, env=kept)
        command = [str(self.python), *arguments]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        if log is None:
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, **identity)
        with log.open("wb") as output:
            both = {"stdout": output, "stderr": subprocess.STDOUT}
            return subprocess.Popen(command, stdin=null, **both, **identity)


# ── place ───────────────────────────────────────────────────────────────────


def _place(package: Package) -> Path:
    # Each package has a workshop of its own, beside that of Celery.
    suffix = "" if package is CELERY else f"-{package.name}"
    configured = os.environ.get("PGTASKS_CONFORMANCE_DIR")
    if configured:
        return Path(f"{Path(configured).absolute()}{suffix}")
    if os.getuid() == 0:
        # Not in root's home, which the user that we drop to cannot enter.
        return Path(f"/var/tmp/pgtasks-conformance{suffix}")
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / f"pgtasks-conformance{suffix}"


def _take(path: Path) -> None:
    """Make the directory ours, or make sure that it is: what is in it will be overwritten."""
    path.mkdir(parents=True, exist_ok=True)
    mark = path / ".pgtasks-conformance"
    if path.stat().st_uid != os.getuid():
        problem = "belongs to somebody else"
    elif not mark.exists() and any(path.iterdir()):
        problem = "has something else in it"
    else:
        mark.touch()
        return
    raise Trouble(f"{path} {problem}. Set PGTASKS_CONFORMANCE_DIR to another directory.")


# ── suite ───────────────────────────────────────────────────────────────────


def _fetch_suite(path: Path, package: Package) -> None:
    if (path / "suite" / "t").is_dir():
        return
    name = package.stem
    archive = path / f"{name}.tar.gz"
    if not archive.exists():
        exactly = f"{package.name}=={package.version}"
        print(f"Downloading the source package {exactly} …", flush=True)
        wanted = ["--no-deps", "--no-binary", ":all:", exactly]
        _run([sys.executable, "-m", "pip", "download", "-q", "-d", str(path), *wanted])
    if hashlib.sha256(archive.read_bytes()).hexdigest() != package.sha256:
        raise Trouble(f"{archive} is not what the targets were made for; delete it")
    unpacked = path / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as tar:
        parts = tuple(f"{name}/{part}" for part in package.parts)
        members = [each for each in tar.getmembers() if each.name.startswith(parts)]
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(unpacked, members, **safely)  # type: ignore[arg-type]
    shutil.rmtree(path / "suite", ignore_errors=True)
    (unpacked / name).rename(path / "suite")
    unpacked.rmdir()


# ── environment ─────────────────────────────────────────────────────────────


def _interpreter(drop_to: int | None) -> str:
    """A Python for the environment: this one, or the system's if others cannot reach it.

    Three of the tests are for Python 3.14 only, so that comes first where there is one.
    """
    configured = os.environ.get("PGTASKS_CONFORMANCE_PYTHON")
    if configured:
        return configured
    newest = shutil.which("python3.14")
    if newest is not None and (drop_to is None or _can_run(newest, drop_to)):
        return newest
    if drop_to is None or _can_run(sys.executable, drop_to):
        return sys.executable
    system = "/usr/bin/python3"
    old_enough = "import sys; sys.exit(sys.version_info < (3, 10))"
    return system if _can_run(system, drop_to, old_enough) else sys.executable


def _environment(path: Path, base: str, package: Package) -> Path:
    """A virtual environment with everything but Celery; made anew when its list changes."""
    python = path / "bin" / "python"
    project = _project()
    ours = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    requirements = sorted({*package.requirements, *ours})
    wanted = json.dumps([base, platform.platform(), requirements])
    stamp = path / "stamp"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print("Making a virtual environment for the suite …", flush=True)
    shutil.rmtree(path, ignore_errors=True)
    # Debian splits pip off from venv; the pip that we have can install into it.
    _run([base, "-m", "venv", "--without-pip", str(path)])
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    _run([*pip, "--disable-pip-version-check", *requirements])
    stamp.write_text(wanted)
    return python


def _project() -> dict[str, Any]:
    project: dict[str, Any] = read_toml(REPOSITORY / "pyproject.toml")["project"]
    return project


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file."""
    try:
        toml = importlib.import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10; pip carries one
        toml = importlib.import_module("pip._vendor.tomli")
    with path.open("rb") as file:
        content: dict[str, Any] = toml.load(file)
    return content


# ── source ──────────────────────────────────────────────────────────────────


def _copy_source(path: Path) -> None:
    """A copy of the packages, which the user that we drop to can read."""
    shutil.rmtree(path, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    for origin, name in (
        (REPOSITORY / "pgtasks", "pgtasks"),
        (REPOSITORY / "migrations", "pgtasks/migrations"),
        (REPOSITORY / "compat" / "pgtasks_celery", "pgtasks_celery"),
        (Path(__file__).parent, "conformance"),
    ):
        if origin.is_dir():
            shutil.copytree(origin, path / name, ignore=ignored)
    _write_metadata(path)


def _write_metadata(path: Path) -> None:
    """What an installation would leave for ``importlib.metadata``."""
    project = _project()
    version = project["version"]
    folder = path / f"pgtasks-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: pgtasks\nVersion: {version}\n"
    )
    groups = project.get("entry-points", {})
    lines = [
        line
        for group, names in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in names.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


# ── users ───────────────────────────────────────────────────────────────────


def _nobody() -> int | None:
    """Id of the user that root drops to; None if we are not root or there is none."""
    if os.getuid() != 0:
        return None
    import pwd

    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return None


def _group_of(user: int) -> int:
    import pwd

    return pwd.getpwuid(user).pw_gid


def _can_run(python: str | Path, user: int, program: str = "") -> bool:
    try:
        done = subprocess.run(
            [str(python), "-c", program],
            user=user,
            group=_group_of(user),
            extra_groups=[],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def _give(path: Path, user: int) -> None:
    """Hand a directory tree to a user: tests write beside themselves."""
    for place in (path, *path.rglob("*")):
        if place.lstat().st_uid != user:
            os.chown(place, user, _group_of(user), follow_symlinks=False)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stdout + done.stderr).strip().splitlines()
        raise Trouble(
            f"`{' '.join(command)}` failed:\n  " + "\n  ".join(output[-15:]) + "\n"
            "The suite needs the network for pip, and pip >= 22.3."
        )
