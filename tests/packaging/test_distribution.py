"""What is built is what is needed, and it runs where nothing else of ours is."""

from __future__ import annotations

import email
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from textwrap import dedent

import pytest

import pgtasks
from helpers import eventually

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.timeout(300)


@dataclass
class Built:
    wheel: Path
    sdist: Path

    @property
    def wheel_names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    @property
    def sdist_names(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}

    def metadata(self, name: str) -> str:
        with zipfile.ZipFile(self.wheel) as archive:
            (path,) = [each for each in archive.namelist() if each.endswith(f"info/{name}")]
            return archive.read(path).decode()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source package, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    # The build's requirements are among our tools: no network.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="session")
def bare(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment with the wheel in it, and no checkout near."""
    home = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    offline = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, *offline, str(built.wheel)], check=True)
    # What it depends on it takes from where the tests run. A path that a .pth file adds
    # comes last, and the .pth files in it (the editable install of ours) do not count.
    (site,) = home.glob("lib/python*/site-packages")
    theirs = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "dependencies.pth").write_text("\n".join(theirs) + "\n")
    return home / "bin"


def clean(**more: str) -> dict[str, str]:
    ours = ("PGTASKS_", "CELERY_", "PYTHON")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | more


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean(**environment),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ── what is inside ──────────────────────────────────────────────────────────────────────


def test_the_wheel_has_every_module_and_what_they_read(built: Built) -> None:
    sources = {
        path.relative_to(home).as_posix()
        for home, package in ((ROOT, "pgtasks"), (ROOT / "compat", "pgtasks_celery"))
        for path in (home / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    migrations = {
        f"pgtasks/migrations/{path.name}" for path in (ROOT / "migrations").glob("*.*")
    }

    names = {name for name in built.wheel_names if ".dist-info/" not in name}

    assert {name for name in sources if name.endswith(".sql")} >= {
        "pgtasks/storage/jobs.sql"
    }
    assert "pgtasks/py.typed" in sources
    assert "pgtasks/migrations/0001_jobs.down.sql" in migrations
    assert names == sources | migrations


def test_the_wheel_says_what_it_is(built: Built) -> None:
    about: Message = email.message_from_string(built.metadata("METADATA"))
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)

    assert version
    assert about["Version"] == version[1] == pgtasks.__version__
    assert about["License-Expression"] == "BSD-3-Clause"
    assert any(name.endswith("licenses/LICENSE") for name in built.wheel_names)
    assert about["Requires-Python"] == ">=3.10"
    assert {"embedded", "binary"} <= set(about.get_all("Provides-Extra"))
    assert "# pgtasks" in about.get_payload()
    assert "pgtasks = pgtasks.__main__:main" in built.metadata("entry_points.txt")
    assert built.wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_depends_on_what_it_imports_and_no_more(built: Built) -> None:
    about: Message = email.message_from_string(built.metadata("METADATA"))
    needed = {
        re.match(r"[\w-]+", line)[0].lower()
        for line in about.get_all("Requires-Dist")
        if "extra ==" not in line
    }

    assert needed == {"psycopg", "kombu", "croniter", "wrapt", "click", "rich", "tzdata"}


def test_the_source_package_can_be_built_and_tested(built: Built) -> None:
    wanted = {
        "LICENSE", "Makefile", "README.md", "pyproject.toml", "migrations/0001_jobs.sql",
        "compat/pgtasks_celery/__init__.py", "tests/conftest.py", "docs/index.md",
    }  # fmt: skip
    names = built.sdist_names

    assert wanted <= names
    unwanted = re.compile(r"\.venv|__pycache__|\.pyc$|_cache/|\.pgtasks|(^|/)\.git/")
    assert [name for name in names if unwanted.search(name)] == []


# ── how it runs ─────────────────────────────────────────────────────────────────────────


def test_the_program_is_there_and_is_the_installed_one(bare: Path, tmp_path: Path) -> None:
    home = run(
        bare / "python", "-c", "import pgtasks; print(pgtasks.__file__)", cwd=tmp_path
    )

    assert run(bare / "pgtasks", "--version", cwd=tmp_path) == f"{pgtasks.__version__}\n"
    assert Path(home.strip()).is_relative_to(bare.parent)


def test_the_installed_program_makes_the_tables(
    bare: Path, tmp_path: Path, fresh_database: str
) -> None:
    where = ("--database-url", fresh_database)
    applied = run(bare / "pgtasks", "schema", "apply", *where, cwd=tmp_path)
    verified = run(bare / "pgtasks", "schema", "verify", *where, cwd=tmp_path)

    numbers = {path.name[:4] for path in (ROOT / "migrations").glob("*_*.sql")}
    assert set(re.findall(r"^Applied (\d{4})_", applied, re.MULTILINE)) == numbers
    assert "is what this version of pgtasks expects" in verified


def test_the_program_of_the_readme_runs_on_the_installed_package(
    bare: Path, tmp_path: Path, database_url: str
) -> None:
    program = re.search(r"^    # tasks\.py\n(?:    .*\n|\n)+", README, re.MULTILINE)
    line = re.search(r"^ +\$ pgtasks (.*?) +# terminal 1$", README, re.MULTILINE)
    assert program
    assert line
    (tmp_path / "tasks.py").write_text(dedent(program[0]), encoding="utf-8")
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [bare / "pgtasks", *shlex.split(line[1])],
            cwd=tmp_path,
            env=clean(PGTASKS_DATABASE_URL=database_url),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: " ready." in log.read_text(), timeout=30, message=log.read_text)
        answer = run(
            bare / "python",
            "-c",
            "from tasks import add; print(add.delay(2, 3).get(timeout=10))",
            cwd=tmp_path,
            PGTASKS_DATABASE_URL=database_url,
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)

    assert answer == "5\n", log.read_text()
    assert worker.returncode == 0, log.read_text()


def test_the_alias_for_celery_is_in_the_wheel_and_sleeps_until_it_is_called(
    bare: Path, tmp_path: Path
) -> None:
    program = """
        import sys
        import pgtasks, pgtasks_celery
        assert not [hook for hook in sys.meta_path if "pgtasks" in type(hook).__module__]
        pgtasks_celery.install()
        from celery import Celery
        print(Celery is pgtasks.Celery)
    """

    assert run(bare / "python", "-c", dedent(program), cwd=tmp_path) == "True\n"
