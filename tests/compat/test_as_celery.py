"""``pgtasks --as-celery``: a program that says ``import celery``, and is not touched at all."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import eventually

# What a task imports when it runs, it imports in a child of the worker.
PROGRAM = """
import ast
import os
from celery import Celery, shared_task
from celery.utils.log import get_task_logger

app = Celery("shop", set_as_current=True)
logger = get_task_logger(__name__)


@shared_task(bind=True)
def who(self):
    import celery
    from celery.result import AsyncResult
    from celery.app.task import Task
    return [celery.__name__, AsyncResult.__module__, isinstance(self, Task), os.getpid()]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the program, and with a Celery that must not be imported."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    (tmp_path / "celery").mkdir()
    (tmp_path / "celery" / "__init__.py").write_text("raise RuntimeError('the real one')")
    return tmp_path


@pytest.fixture
def pgtasks(
    folder: Path, database_url: str
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in that folder."""

    def pgtasks(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pgtasks", *words],
            cwd=folder,
            env={**os.environ, "PGTASKS_DATABASE_URL": database_url, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return pgtasks


@contextmanager
def a_worker(folder: Path, url: str, *words: str, **environment: str) -> Iterator[int]:
    """A worker as a process; gives its pid."""
    path = folder / "worker.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pgtasks", *words],
            cwd=folder,
            env={**os.environ, "PGTASKS_DATABASE_URL": url, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said() -> str:
        return path.read_text(encoding="utf-8", errors="replace")

    try:
        eventually(
            lambda: " ready." in said() or process.poll() is not None,
            timeout=30,
            message=said,
        )
        assert process.poll() is None, said()
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


WORKER = ("worker", "-c", "2", "-l", "info")


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (("--as-celery", "-A", "shop", *WORKER), {}),
        (("worker", "-A", "shop", "--as-celery", *WORKER[1:]), {}),
        (("-A", "shop", *WORKER), {"PGTASKS_AS_CELERY": "1"}),
    ],
    ids=["before the command", "behind it", "by the environment"],
)
def test_a_prefork_worker_runs_a_program_that_imports_celery(
    folder: Path, database_url: str, pgtasks, words, environment
) -> None:
    with a_worker(folder, database_url, *words, **environment) as pid:
        sent = pgtasks("--as-celery", "-A", "shop", "call", "shop.who")
        assert sent.returncode == 0, sent.stderr
        task_id = sent.stdout.strip()

        def answer() -> str:
            told = pgtasks("--as-celery", "-A", "shop", "result", task_id)
            return told.stdout if told.returncode == 0 else ""

        eventually(answer, timeout=30)
        name, module, is_task, child = ast.literal_eval(answer())

    assert (name, is_task) == ("pgtasks", True)
    assert module.startswith("pgtasks.result")
    assert child != pid


def test_processes_that_the_command_starts_are_told_too(folder: Path, pgtasks) -> None:
    (folder / "child.py").write_text(
        "import os\nfrom celery import Celery\n"
        "app = Celery('child', broker='memory://')\n"
        "print(os.environ['PGTASKS_AS_CELERY'])\n"
    )
    done = pgtasks("--as-celery", "-A", "child", "report")

    assert done.stdout.splitlines()[0] == "1", done.stderr


def test_without_it_the_program_finds_the_real_celery(pgtasks) -> None:
    refused = pgtasks("-A", "shop", "report")

    assert refused.returncode == 2
    assert "the real one" in refused.stderr


def test_a_celery_that_is_imported_already_is_an_error_with_a_remedy(
    folder: Path, pgtasks
) -> None:
    (folder / "celery" / "__init__.py").write_text("class Celery: pass")
    (folder / "sitecustomize.py").write_text("import celery")
    refused = pgtasks("--as-celery", "-A", "shop", "report", PYTHONPATH=str(folder))

    assert refused.returncode == 2
    assert "comes too late" in refused.stderr
    assert "Traceback" not in refused.stderr
