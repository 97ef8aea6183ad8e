"""The prefork pool by itself, in a process of its own: it forks the one that it is in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

TESTS = Path(__file__).parents[1]

# A pool of two children that each take one job and never end it.
POOL = """
    import os, select, signal, uuid
    from helpers import eventually
    from pgtasks.job import Job
    from pgtasks.worker.begun import BegunFile
    from pgtasks.worker.pools import parcel
    from pgtasks.worker.pools.prefork import PreforkPool

    class Reports:
        def __init__(self):
            self.told = []

        def lost(self, job, status):
            self.told.append((job.id, "lost"))

        def unbegun(self, job):
            self.told.append((job.id, "unbegun"))

        def settled(self, settlement, job):
            self.told.append((settlement.id, "settled"))

        def died(self, what, error):
            self.told.append((what, repr(error)))

        def room(self):
            pass

        def limits(self, job):
            return None, None

        def resized(self, places):
            self.told.append(("places", places))

    def run_child(near, number):
        if slow.exists():
            signal.pause()  # a program that does not come to its end when it is imported
        parcel.send(near, ("ready",), begun.path.parent, wait=True)
        message = parcel.receive(near, bytearray(parcel.LARGEST + 1024), wait=True)
        if message[0] != "stop":
            begun.slot(number).begin(message[1])
            signal.pause()

    def job(id):
        fields = dict.fromkeys(Job._fields, 0) | {"id": id, "task_id": str(id)}
        return Job(**fields)

    begun = BegunFile(str(uuid.uuid4()), 4)
    slow = begun.path.with_suffix(".slow")
    reports = Reports()
    pool = PreforkPool(reports, 2, begun, lease=20.0, run_child=run_child)
    pool.start()
    eventually(lambda: all(child.ready for child in pool._children))
    pool.submit([job(1), job(2)])
    eventually(lambda: pool.running().keys() == {1, 2})
    first, second = pool._children
"""


def run(program: str) -> str:
    ended = """
    pool.kill()
    pool.stop()
    begun.remove()
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(POOL) + dedent(program) + dedent(ended)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_end_of_a_child_is_heard_of_that_came_while_another_was_born() -> None:
    told = run("""
        spawn = pool._nursery.spawn

        def spawn_when_the_other_dies(slot, far):
            pool._nursery.spawn = spawn
            os.kill(second.pid, signal.SIGKILL)
            select.select([pool._nursery.control], [], [])  # the news of it has come
            return spawn(slot, far)

        pool._nursery.spawn = spawn_when_the_other_dies
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: len(reports.told) == 2, message=lambda: repr(reports.told))
        print(sorted(reports.told))
    """)

    assert told == "[(1, 'lost'), (2, 'lost')]"


def test_two_children_that_die_at_once_are_both_replaced() -> None:
    pids = run("""
        before = {first.pid, second.pid}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: all(child.ready for child in pool._children)
                   and not before & {child.pid for child in pool._children})
        print(sorted(reports.told))
    """)

    assert pids == "[(1, 'lost'), (2, 'lost')]"


def test_it_grows_and_shrinks_while_jobs_run() -> None:
    told = run("""
        pool.grow(2)
        eventually(lambda: sum(child.ready for child in pool._children) == 4)
        pool.submit([job(3)])
        eventually(lambda: pool.running().keys() == {1, 2, 3})
        pool.shrink(3)
        # The one that has nothing to do ends at once, and the others when they can.
        eventually(lambda: len(pool._by_pid) == 3)
        assert pool.running().keys() == {1, 2, 3}
        assert pool.num_processes == 1 and pool.demand == 0
        for child in list(pool._children):
            os.kill(child.pid, signal.SIGKILL)
        # Three ends, and two changes of size.
        eventually(lambda: len(reports.told) == 5
                   and [child.ready for child in pool._children] == [True])
        print(sorted(reports.told, key=str))
    """)

    ends = [(1, "lost"), (2, "lost"), (3, "lost")]
    assert told == str(sorted([("places", 4), ("places", 1), *ends], key=str))


def test_a_place_that_was_to_go_is_kept_if_it_is_needed_again() -> None:
    pids = run("""
        busy = {first.pid, second.pid}
        pool.shrink(1)
        pool.grow(1)
        assert pool.running().keys() == {1, 2}
        leaving = next(child for child in pool._children if child.dismissed)
        os.kill(leaving.pid, signal.SIGKILL)
        eventually(lambda: leaving.pid not in busy and leaving.ready)
        print(len(busy & pool._by_pid.keys()), pool.demand)
    """)

    assert pids == "1 1"


def test_it_grows_no_further_than_there_is_room_for_notes() -> None:
    said = run("""
        try:
            pool.grow(3)
        except ValueError as error:
            print(error)
    """)

    assert "has 2 places and can have 4, but not 5" in said
    assert "larger -c or --autoscale" in said


def test_after_a_restart_fresh_children_run_the_jobs() -> None:
    replaced = run("""
        pool.grow(1)
        idle = eventually(lambda: next((child for child in pool._children
                                        if child.ready and not child.jobs), None))
        before, busy = idle.pid, {first.pid, second.pid}
        pool.restart()
        eventually(lambda: idle.ready and idle.pid != before)
        # Those that run a job end with it.
        assert pool.running().keys() == {1, 2}
        for pid in busy:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: sum(child.open for child in pool._children) == 3)
        print(busy & pool._by_pid.keys(), pool.demand)
    """)

    assert replaced == "set() 3"


def test_a_child_that_is_never_ready_is_replaced() -> None:
    told = run("""
        pool._alive_timeout = 0.2
        slow.touch()
        pool.grow(1)
        third = pool._children[2]
        seen = set()
        eventually(lambda: seen.add(third.pid) or len(seen - {0}) >= 3, timeout=30)
        slow.unlink()
        eventually(lambda: third.ready, timeout=30)
        print(third.pid in seen - {max(seen)}, pool.running().keys() == {1, 2})
    """)

    assert told == "False True"
