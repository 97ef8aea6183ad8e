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

    def run_child(near, number):
        parcel.send(near, ("ready",), begun.path.parent, wait=True)
        message = parcel.receive(near, bytearray(parcel.LARGEST + 1024), wait=True)
        if message[0] != "stop":
            begun.slot(number).begin(message[1])
            signal.pause()

    def job(id):
        fields = dict.fromkeys(Job._fields, 0) | {"id": id, "task_id": str(id)}
        return Job(**fields)

    begun = BegunFile(str(uuid.uuid4()), 2)
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
