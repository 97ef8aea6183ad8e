"""Tasks in the documentation of a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")

PROGRAM = '''
"""A program."""

from pgtasks import Celery, shared_task

app = Celery("program", broker="memory://", set_as_current=False)


@app.task(bind=True)
def bound(self, x, y=1):
    """Does something with itself."""


@shared_task
def shared(x):
    """Does something for everybody."""


def plain(x):
    """Is no task."""
'''

PAGE = """
Program
=======

.. automodule:: program
   :members:

See :task:`program.bound`.

.. autotask:: program.shared
   :noindex:
"""


@pytest.fixture
def built(tmp_path: Path) -> str:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "index.rst").write_text(PAGE)
    (tmp_path / "conf.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "extensions = ['sphinx.ext.autodoc', 'pgtasks.contrib.sphinx']\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-b", "text", ".", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (tmp_path / "out" / "index.txt").read_text()


def test_tasks_are_shown_with_a_prefix_and_functions_without(built):
    assert "(task)program.bound(x, y=1)" in built
    assert "Does something with itself." in built
    assert built.count("(task)program.shared(x)") == 2
    assert "\nprogram.plain(x)" in built


def test_tasks_can_be_linked_to(built):
    assert 'See "program.bound()"' in built or "See program.bound()" in built
