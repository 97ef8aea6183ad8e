"""The command line: in this process where that will do, as a program where it must be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import fix_postgres

sys.path.insert(0, str(Path(__file__).parent))

from cli_helpers import TASKS, LiveWorker, write

from pgtasks import Celery
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.main import program


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CELERY_", "PGTASKS_DATABASE")) or name in ("APP", "NO_COLOR"):
            monkeypatch.delenv(name)


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    """An application on the test's database."""
    app = Celery("tests", broker=database_url, set_as_current=False)

    @app.task(name="tests.add", shared=False)
    def add(x, y):
        return x + y

    with app:
        yield app


@pytest.fixture
def run(app: Celery) -> Callable[..., Result]:
    """Runs a command for the application."""

    def run(*words: str, app: Celery | None = app, **options: Any) -> Result:
        return CliRunner().invoke(
            program,
            words,
            obj=None if app is None else Invocation(named=app),
            auto_envvar_prefix="CELERY",
            prog_name="pgtasks",
            **options,
        )

    return run


@pytest.fixture
def pgtasks(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program in a folder with a module ``tasks``."""
    write(tmp_path / "tasks.py", TASKS)

    def pgtasks(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pgtasks", *words],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return pgtasks


@pytest.fixture(scope="module")
def live(
    postgres: Any, template: str, _names: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """A worker with a database of its own, for as long as the module's tests run."""
    folder = tmp_path_factory.mktemp("live")
    write(folder / "tasks.py", TASKS)
    database = f"{_names}_live"
    with fix_postgres._database(postgres, database, template):
        url = postgres.url_of(database)
        worker = LiveWorker(folder, url, "-n", "live@here", "-Q", "celery,other", "-c", "2")
        app = Celery("live", broker=url, set_as_current=False)
        try:
            yield SimpleNamespace(folder=folder, url=url, app=app, worker=worker)
        finally:
            app.close()
            worker.stop()
