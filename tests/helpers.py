"""What tests of every floor need."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


def eventually(
    predicate: Callable[[], T], timeout: float = 10, message: str | Callable[[], str] = ""
) -> T:
    """Wait until ``predicate`` holds, and return what it returned.

    An ``AssertionError`` in the predicate means "not yet": the last one is shown when time
    is up, which says more than "timed out".
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        reason: AssertionError | None = None
        try:
            answer = predicate()
            if answer:
                return answer
            last = f"the last answer was {answer!r}"
        except AssertionError as error:
            reason, last = error, str(error)
        if time.monotonic() > deadline:
            text = message() if callable(message) else message
            raise AssertionError(
                f"{text or 'not so'} after {timeout:g} s: {last}"
            ) from reason
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def children(pid: int) -> list[int]:
    """The processes that run a worker's jobs."""

    def below(pid: int) -> list[int]:
        try:
            files = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
            return [int(each) for file in files for each in file.read_text().split()]
        except OSError:
            return []

    return [grandchild for child in below(pid) for grandchild in below(child)]


def path_to_celery() -> Path:
    """Where the real Celery is, to be put on the path of a program; skips the test without it."""
    folder = Path(__file__).parents[1] / ".venv" / "celery"
    folder = Path(os.environ.get("PGTASKS_TEST_CELERY") or folder)
    if not (folder / "celery" / "schedules.py").exists():
        pytest.skip(
            f"Celery is not in {folder}: 'make .venv/.celery' downloads it, or name the "
            f"folder of another by PGTASKS_TEST_CELERY"
        )
    return folder
