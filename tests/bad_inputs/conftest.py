"""A database and a worker for all the cases of one module."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fix_postgres

sys.path.insert(0, str(Path(__file__).parent))

from workplace import HERE, Workplace, with_secret


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


@pytest.fixture(scope="module")
def behaviour(workplace: Workplace) -> Iterator[ModuleType]:
    """The application of the worker, as its clients have it."""
    spec = importlib.util.spec_from_file_location("behaviour", HERE / "behaviour.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAD_INPUTS_URL", with_secret(workplace.url))
        spec.loader.exec_module(module)
    with module.app:
        yield module
