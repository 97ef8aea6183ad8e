"""The notes of what was begun, and what others conclude from them."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from helpers import eventually
from pgtasks.worker.begun import (
    RING,
    BegunFile,
    begun_path,
    is_abandoned,
    read_begun,
)
from pgtasks.worker.identity import boottime


@pytest.fixture
def begun() -> Iterator[BegunFile]:
    file = BegunFile(str(uuid.uuid4()), 2)
    yield file
    file.close()
    file.remove()


def test_what_was_noted_is_read_by_others(begun: BegunFile):
    begun.slot(0).begin(7)
    begun.slot(1).begin(8)
    begun.slot(1).end()

    assert read_begun(begun.worker) == {7, 8}
    assert begun.busy()
    assert begun.slot(1).last == 8


def test_slots_that_were_never_used_are_not_read(begun: BegunFile):
    path = begun_path(begun.worker)
    begun.watched = True
    assert read_begun(begun.worker) == set()
    begun.slot(0).begin(7)
    os.truncate(path, path.stat().st_size // 2)

    # What lies beyond the slot that was used is not looked for, whoever watches.
    assert read_begun(begun.worker) == {7}
    begun.watched = False
    assert read_begun(begun.worker) == {7}


def test_the_last_notes_of_a_slot_outlive_the_older_ones(begun: BegunFile):
    slot = begun.slot(0)
    for job in range(1, RING + 11):
        slot.begin(job)

    assert read_begun(begun.worker) == set(range(11, RING + 11))


def test_a_file_of_another_machine_says_nothing():
    assert read_begun(str(uuid.uuid4())) is None
    assert is_abandoned(str(uuid.uuid4())) is None


def test_the_file_is_held_until_the_last_process_of_its_worker_is_gone():
    worker = str(uuid.uuid4())
    heard, told = os.pipe()
    parent = os.fork()
    if not parent:
        BegunFile(worker, 1)
        child = os.fork()
        if child:
            os.write(told, child.to_bytes(4, "big"))
        signal.pause()
        os._exit(0)
    child = int.from_bytes(os.read(heard, 4), "big")
    try:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        held = is_abandoned(worker)
        os.kill(child, signal.SIGKILL)

        assert held is False
        eventually(lambda: is_abandoned(worker))
    finally:
        begun_path(worker).unlink()
        os.close(heard)
        os.close(told)


def test_a_new_id_keeps_the_notes_under_both_names(begun: BegunFile):
    old, new = begun.worker, str(uuid.uuid4())
    begun.slot(0).begin(7)

    begun.rename(new)

    assert begun.worker == new
    assert read_begun(old) == read_begun(new) == {7}
    begun.remove()
    assert not begun_path(old).exists()
    assert not begun_path(new).exists()


def test_nothing_begins_under_a_stale_lease_an_old_id_or_a_verdict(begun: BegunFile):
    now = begun.incarnation
    assert not begun.may_begin(now, 3.0)

    begun.renewed_at = boottime()
    assert begun.may_begin(now, 3.0)
    assert not begun.may_begin(now - 1, 3.0)

    begun.renewed_at = boottime() - 0.9 * 3.0
    assert not begun.may_begin(now, 3.0)

    begun.renewed_at = boottime()
    begun.condemned = True
    assert not begun.may_begin(now, 3.0)
