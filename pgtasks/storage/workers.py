"""Workers as rows: registered at start, alive by heartbeat, swept when they fall silent."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pgtasks.job import Job
from pgtasks.storage.query import Query, Row, load

__all__ = [
    "Grave",
    "Held",
    "Look",
    "Rescued",
    "Worker",
    "audit",
    "beat",
    "bury",
    "describe",
    "graves",
    "live",
    "look",
    "register",
    "rescue",
    "sleep",
    "stop",
]

SQL = load("workers.sql")


class Worker(NamedTuple):
    """One living incarnation of a worker, as the others see it.

    Attributes:
        id: Random, made at its start; never the host's name (R1).
        machine: Kernel boot and process namespace that ``pid`` belongs to.
        process_started: When that process began, in the kernel's clock ticks.
        begun_file: Where it notes the jobs that it has begun, on its own machine.
        beat: Count of its heartbeats.
        lease: Seconds that one heartbeat is good for.
        lapsed: Whether the lease has ended by the database's clock.
        silence: Seconds since its last heartbeat.
        asleep: Whether it waits for a notification.
        info: What it tells about itself: tasks, totals, settings.
    """

    id: str
    name: str
    hostname: str
    pid: int
    machine: str
    process_started: float
    begun_file: str | None
    beat: int
    lease: float
    lapsed: bool
    queues: list[str]
    pool: str
    concurrency: int
    version: str
    started_at: float
    silence: float
    asleep: bool
    info: dict[str, Any]


class Grave(NamedTuple):
    """A dead or stopped worker that left executing jobs behind."""

    id: str
    begun_file: str | None
    machine: str


class Rescued(NamedTuple):
    """What one sweep did: how many jobs wait again, and which must be given up."""

    released: int
    abandoned: list[Job]


class Held(NamedTuple):
    """A job that the table says a worker holds."""

    id: int
    claim_token: str
    task_id: str


class Look(NamedTuple):
    """What an idle worker sees when it looks around.

    Attributes:
        orphaned: Jobs execute under workers that are gone.
        held: The table says that we have held jobs for more than a second.
        uncounted: Chords or their bodies have been left alone by those who count.
        ready: Jobs wait in our queues.
        due: Seconds until the next scheduled job; None if there is none.
        told: There are commands for us.
        workers: Those that neither stopped nor were declared dead, without what they
            tell about themselves.
    """

    orphaned: bool
    held: bool
    uncounted: bool
    ready: bool
    due: float | None
    told: bool
    workers: list[Worker]


def register(
    *,
    id: str,
    name: str,
    hostname: str,
    pid: int,
    machine: str,
    process_started: float,
    begun_file: str | None,
    lease: float,
    queues: Sequence[str],
    pool: str,
    concurrency: int,
    version: str,
    info: Mapping[str, object],
) -> Query[bool]:
    """Enter a new incarnation, its lease running from now."""
    params = {
        "id": id,
        "name": name,
        "hostname": hostname,
        "pid": pid,
        "machine": machine,
        "process_started": process_started,
        "begun_file": begun_file,
        "lease": lease,
        "queues": list(queues),
        "pool": pool,
        "concurrency": concurrency,
        "version": version,
        "info": json.dumps(info),
    }
    return Query(SQL["register"], params, bool)


def beat(id: str) -> Query[bool]:
    """Renew the lease; False if the worker was declared dead meanwhile (R16)."""
    return Query(SQL["beat"], {"id": id}, bool)


def describe(
    id: str, *, queues: Sequence[str], concurrency: int, info: Mapping[str, object]
) -> Query[bool]:
    """Tell the others what this worker does now."""
    params = {
        "id": id,
        "queues": list(queues),
        "concurrency": concurrency,
        "info": json.dumps(info),
    }
    return Query(SQL["describe"], params, bool)


def sleep(id: str, asleep: bool) -> Query[bool]:
    """Ask inserts to notify from now on, or to stop doing so."""
    return Query(SQL["sleep"], {"id": id, "asleep": asleep}, bool)


def stop(id: str) -> Query[bool]:
    """Sign off: nothing is held any more."""
    return Query(SQL["stop"], {"id": id}, bool)


def live() -> Query[list[Worker]]:
    """The workers that neither stopped nor were declared dead."""

    def read(rows: Sequence[Row]) -> list[Worker]:
        return [Worker._make((*row[:-1], json.loads(row[-1]))) for row in rows]

    return Query(SQL["live"], {}, read)


def look(
    worker: str,
    *,
    name: str,
    queues: Sequence[str],
    mark: int = 0,
    answered: Collection[int] = (),
    age: float = 10.0,
) -> Query[Look]:
    """Look around: one question in place of those of each service.

    Args:
        worker: Who looks.
        name: Its name, under which it is sent commands.
        queues: The queues that it serves.
        mark: Commands up to this id are left out.
        answered: Ids above ``mark`` that have been answered.
        age: Seconds that a chord may be without members before that is noted.
    """
    params = {
        "worker": worker,
        "name": name,
        "queues": list(queues),
        "mark": mark,
        "answered": list(answered),
        "age": age,
    }

    def read(rows: Sequence[Row]) -> Look:
        living = [Worker._make((*row[6:-1], {})) for row in rows if row[6] is not None]
        return Look._make((*rows[0][:6], living))

    return Query(SQL["look"], params, read)


def bury(id: str, *, beat: int) -> Query[bool]:
    """Declare a worker dead, unless its heart has beaten after ``beat``."""
    return Query(SQL["bury"], {"id": id, "beat": beat}, bool)


def graves() -> Query[list[Grave]]:
    """Dead and stopped workers with jobs still to rescue."""
    return Query(SQL["graves"], {}, lambda rows: [Grave(*row) for row in rows])


def rescue(
    *,
    worker: str,
    traced: Sequence[str] = (),
    begun: Sequence[int] = (),
    max_lost: int = 10,
    limit: int = 500,
) -> Query[Rescued]:
    """Give back what dead workers held.

    Args:
        worker: Who sweeps; jobs that must not run again become its to settle.
        traced: Dead workers of which it is known exactly what they had begun.
        begun: The ids of the jobs that those had begun.
        max_lost: A job whose workers vanish this often is given up.
        limit: Rows of one statement.
    """
    params = {
        "worker": worker,
        "traced": list(traced),
        "begun": list(begun),
        "max_lost": max_lost,
        "limit": limit,
    }

    def read(rows: Sequence[Row]) -> Rescued:
        abandoned = [Job._make(row[:-1]) for row in rows if row[-1] == "executing"]
        return Rescued(len(rows) - len(abandoned), abandoned)

    return Query(SQL["rescue"], params, read)


def audit(id: str) -> Query[list[Held]]:
    """What the table says this worker has held for more than a second (R13)."""
    return Query(SQL["audit"], {"id": id}, lambda rows: [Held(*row) for row in rows])
