"""Each tick is one job, whoever leads is killed; `python -m tests.chaos.beats` takes longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("PGTASKS_BEATS_SECONDS", "30"))
FAULTS = int(os.environ.get("PGTASKS_BEATS_FAULTS", "5"))


@pytest.mark.slow
@pytest.mark.journey
@pytest.mark.timeout(3 * SECONDS + 200)
def test_each_tick_is_one_job_whatever_becomes_of_whoever_leads(tmp_path: Path):
    words = ["--seconds", str(SECONDS), "--faults", str(FAULTS), "--keep", str(tmp_path)]
    # Ten seconds are for a machine that does nothing else.
    words += ["--longest", os.environ.get("PGTASKS_BEATS_LONGEST", "40")]
    storm = subprocess.run(
        [sys.executable, "-m", "tests.chaos.beats", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3 * SECONDS + 160,
    )

    assert storm.returncode == 0, storm.stdout + storm.stderr
    assert "PASS" in storm.stdout
