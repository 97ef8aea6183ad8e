"""Fixtures for the embedded server."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dev.users import Join, User, processes_in
from helpers import eventually


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can enter; afterwards nothing may run in it."""
    folder = Path(tempfile.mkdtemp(prefix="pgtasks-tests-", dir=_quick_folder()))
    folder.chmod(0o755)
    yield folder
    eventually(lambda: not processes_in(folder), message=lambda: f"leaked in {folder}")
    shutil.rmtree(folder)


def _quick_folder() -> str | None:
    """In memory where there is room: a durable server and its removal wait for the disk."""
    shared_memory = Path("/dev/shm")
    if shared_memory.is_dir() and shutil.disk_usage(shared_memory).free > 500_000_000:
        return str(shared_memory)
    return None


@pytest.fixture
def join(place: Path) -> Iterator[Join]:
    """Start users of the server in ``place / "pg"``, or of another call."""
    users = []

    def start(call: str = "", then: str = "", **options: Any) -> User:
        folder = str(place / "pg")
        users.append(User(call or f"shared_server(Path({folder!r}))", then, **options))
        return users[-1]

    yield start
    for user in users:
        user.kill()
        for pipe in (user.process.stdin, user.process.stdout):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def nobody() -> int:
    """An account without rights, to be had by root only."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as somebody else")
    return pwd.getpwnam("nobody").pw_uid
