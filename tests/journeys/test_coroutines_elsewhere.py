"""Coroutines in child processes, which run one job at a time; and processes that have grown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ensemble import PATIENCE, Ensemble, ensemble
from helpers import children, eventually
from pgtasks.exceptions import TimeLimitExceeded

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def processes(module_database: str, tmp_path_factory: Any) -> Iterator[Ensemble]:
    folder = tmp_path_factory.mktemp("processes")
    options = ("-c", "2", "--max-memory-per-child", "150000")
    with ensemble(module_database, folder, *options) as choir:
        yield choir


def test_in_processes_they_run_one_by_one_and_are_interrupted_too(processes: Ensemble):
    soft, parts = processes.send("softly"), processes.send("softly_in_parts")
    hard, late = processes.send("killed"), processes.send("late")
    rest, again = processes.send("rest", 0), processes.send("again")

    assert soft.get(timeout=PATIENCE) == "in good time"
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        parts.get(timeout=PATIENCE)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=PATIENCE)
    with pytest.raises(Exception, match="took longer than its timeout"):
        late.get(timeout=PATIENCE)
    *seen, thread = rest.get(timeout=PATIENCE)
    assert (set(seen), thread) == ({rest.id}, "MainThread")
    assert again.get(timeout=PATIENCE) == "at try 2"


def test_a_process_that_has_grown_is_replaced_after_its_job(processes: Ensemble):
    grown = processes.get("hoard", 200)["here"][0]
    eventually(lambda: grown not in children(processes.pid), timeout=PATIENCE)
    after = {processes.get("hoard", 1)["here"][0] for _ in range(4)}

    assert grown not in after
    assert len(after) <= 2
