"""A minute of chaos in each run of the suite; `make chaos` does two and more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.journey
@pytest.mark.timeout(300)
def test_every_promise_is_kept_through_a_minute_of_faults(tmp_path: Path):
    storm = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos",
            "--seconds",
            "60",
            "--jobs",
            "4000",
            "--seed",
            "7",
            "--keep",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )

    assert storm.returncode == 0, storm.stdout + storm.stderr
    assert "PASS" in storm.stdout
