"""Schedules beside Celery's own: the same runs, every one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import path_to_celery

WALK = Path(__file__).with_name("walk.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What a walk through three years has found; every run of them with PGTASKS_WALK=whole."""
    whole = os.environ.get("PGTASKS_WALK") == "whole"
    path = os.pathsep.join(map(str, (path_to_celery(), ROOT)))
    done = subprocess.run(
        [sys.executable, str(WALK), *(["--whole"] if whole else [])],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# Alone it takes ten seconds; whole, an hour.
@pytest.mark.timeout(4 * 3600 if os.environ.get("PGTASKS_WALK") == "whole" else 300)
@pytest.mark.parametrize(
    ("kind", "at_least"), [("crontabs", 300_000), ("intervals", 700), ("suns", 800)]
)
def test_they_are_due_at_the_same_moments(
    told: dict[str, Any], kind: str, at_least: int
) -> None:
    found = told[kind]

    assert found["examples"] == []
    assert found["different"] == 0
    assert found["steps"] > at_least
