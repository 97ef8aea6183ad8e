"""A database and a worker for all the cases of one module."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import fix_postgres

sys.path.insert(0, str(Path(__file__).parent))

from workplace import Workplace


@pytest.fixture(scope="module")
def own_database(postgres, template: str) -> Iterator[str]:
    """A database with our tables, for one module."""
    name = f"pgtasks_bad_{uuid.uuid4().hex[:12]}"
    with fix_postgres._database(postgres, name, template):
        yield postgres.url_of(name)


@pytest.fixture(scope="module")
def workplace(own_database: str, tmp_path_factory) -> Iterator[Workplace]:
    """A prefork worker with two processes at work."""
    workplace = Workplace(own_database, tmp_path_factory.mktemp("workplace"))
    try:
        workplace.hire("-c", "2")
        yield workplace
    finally:
        workplace.close()
