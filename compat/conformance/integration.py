"""What Celery's integration tests need: a PostgreSQL, a scratchpad, and child programs.

They run against a real worker. Most of what touches Redis there is a note of what ran, but
the tests skip themselves where results are not kept in one; that gate is lifted in the
copy that was downloaded. Nothing else of theirs is changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from compat.conformance.scratch import Scratchpad
from compat.conformance.workshop import Trouble, Workshop

__all__ = ["FOLDER", "integration", "lifted"]

FOLDER = "t/integration"

#: ``if not manager.app.conf.result_backend.startswith("redis")``, before a skip.
GATE = re.compile(
    r"""not (manager\.)?app\.conf\.result_backend\.startswith\((['"])redis\2\)"""
)

#: Tests of Redis itself, whose gate stays.
GATED = {"test_redis_backend.py", "test_backend_leak_in_fixture_teardown.py"}

#: Children of the tests import Celery as the tests do, from their first line on.
SITE = "import pgtasks_celery\n\npgtasks_celery.install()\n"
PROGRAM = """#!{python}
import sys

from pgtasks.__main__ import main

sys.exit(main())
"""


@contextmanager
def integration(workshop: Workshop) -> Iterator[dict[str, str]]:
    """The environment of integration tests, with its servers as long as the block.

    Raises:
        Trouble: There is no PostgreSQL to be had.
    """
    _lift_gates(workshop)
    children = _prepare_children(workshop)
    with ExitStack() as stack:
        url = stack.enter_context(_database(workshop))
        pad = stack.enter_context(Scratchpad())
        yield {
            "TEST_BROKER": url,
            "TEST_BACKEND": url,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(pad.port),
            "WORKER_LOGLEVEL": "INFO",
            "PATH": f"{children / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": f"{workshop.source}{os.pathsep}{children}",
        }


def lifted(text: str) -> str:
    """The text of a file of tests, which no longer skip themselves without a Redis."""
    return GATE.sub("False", text)


def _lift_gates(workshop: Workshop) -> None:
    for path in (workshop.suite / FOLDER).glob("test_*.py"):
        before = path.read_text(encoding="utf-8")
        after = lifted(before)
        if after != before and path.name not in GATED:
            path.write_text(after, encoding="utf-8")


def _prepare_children(workshop: Workshop) -> Path:
    """A directory with a ``celery`` to start, and the alias for all that Python starts."""
    children = workshop.source / "children"
    (children / "bin").mkdir(parents=True)
    (children / "sitecustomize.py").write_text(SITE)
    program = children / "bin" / "celery"
    program.write_text(PROGRAM.format(python=workshop.python))
    program.chmod(0o755)
    return children


@contextmanager
def _database(workshop: Workshop) -> Iterator[str]:
    """A server that belongs to the user that the tests run as."""
    process = workshop.start(["-m", "conformance.server"], {}, None)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().decode().strip()
        if not url:
            raise Trouble("There is no PostgreSQL for the integration tests: see above.")
        yield url
    finally:
        process.stdin.close()
        process.wait()
