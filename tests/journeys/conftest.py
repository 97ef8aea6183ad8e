from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fleet import Fleet


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Workers, jobs and a ledger on a clean database."""
    fleet = Fleet(database_url, tmp_path)
    yield fleet
    fleet.close()
