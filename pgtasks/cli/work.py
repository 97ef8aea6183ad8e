"""The questions of ``pgtasks doctor`` about the work: workers, queues, and what slows claims."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pgtasks.cli.findings import PATIENCE, Finding, ago
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.storage import health
    from pgtasks.storage.database import Database

__all__ = ["dead_rows", "horizon", "queues", "workers"]

OLD_JOB = 300.0
OLD_TRANSACTION = 300.0


def workers(database: Database) -> Iterator[Finding]:
    """Who is there, who died, and who went without a word."""
    from pgtasks.storage import health

    workers = database.run(health.workers(), timeout=PATIENCE)
    if not any(not worker.dead and not _is_gone(worker) for worker in workers):
        yield Finding(
            "workers", "warn", "none is running", "Start one: pgtasks -A proj worker"
        )
    for worker in workers:
        where = f"{worker.name} (pid {worker.pid} on {worker.hostname})"
        heard = f"heard of {ago(worker.silence)}"
        data = {**worker._asdict(), "queues": list(worker.queues)}
        if worker.dead:
            yield Finding(
                "worker",
                "warn",
                f"{where} died: {heard}; its jobs were taken over",
                "Its log tells why; if it was killed, look for the kernel's out-of-memory "
                "killer.",
                data,
            )
        elif _is_gone(worker):
            yield Finding(
                "worker",
                "warn",
                f"{where} is gone, and did not sign off; {heard}",
                "Another running worker takes its jobs over. Start one if there is none.",
                data,
            )
        elif worker.silence > worker.lease:
            yield Finding(
                "worker",
                "warn",
                f"{where} is silent: {heard}, and its lease is {worker.lease:g} s",
                "Another running worker will take its jobs over. Start one if there is none.",
                data,
            )
        else:
            text = f"{where}, {worker.pool} {worker.concurrency}, {heard}"
            yield Finding("worker", "ok", text, data=data)


def _is_gone(worker: health.Worker) -> bool:
    """Whether it ran on this machine and its process has ended."""
    from pgtasks.worker import identity

    return worker.machine == identity.machine() and not identity.is_alive(
        worker.pid, worker.process_started
    )


def queues(database: Database, name: str) -> Iterator[Finding]:
    """What waits in each queue, and whether somebody serves it."""
    from pgtasks.storage import health

    rows = database.run(health.backlog(), timeout=PATIENCE)
    served = {
        queue
        for worker in database.run(health.workers(), timeout=PATIENCE)
        if not worker.dead and worker.silence <= worker.lease and not _is_gone(worker)
        for queue in worker.queues
    }
    if not rows:
        yield Finding("queues", "ok", "no job is waiting or running")
    for row in rows:
        text = f"{row.queue}: {row.waiting:,} waiting, {row.later:,} later, {row.running:,} running"
        if row.age is not None:
            text += f", the oldest due {ago(row.age)}"
        data = {**row._asdict(), "served": row.queue in served}
        if row.queue not in served:
            yield Finding(
                "queue",
                "warn",
                f"{text}; no worker serves it",
                f"Start one: pgtasks -A {shlex.quote(name)} worker -Q {shlex.quote(row.queue)}",
                data,
            )
        elif row.age is not None and row.age > OLD_JOB:
            yield Finding(
                "queue",
                "warn",
                text,
                "Its workers do not keep up: start more of them, or raise --concurrency.",
                data,
            )
        else:
            yield Finding("queue", "ok", text, data=data)
    overdue = database.run(health.overdue(), timeout=PATIENCE)
    if overdue.jobs:
        yield Finding(
            "due jobs",
            "warn",
            f"{overdue.jobs:,} {pluralize(overdue.jobs, 'job')} with a countdown, an eta or a "
            f"retry should have started, the oldest {ago(overdue.age or 0.0)}",
            "Any running worker makes them available: start one.",
            overdue._asdict(),
        )


def horizon(database: Database) -> Iterator[Finding]:
    """The oldest open transaction, which keeps dead rows from being removed."""
    from pgtasks.storage import health

    holder = database.run(health.horizon(), timeout=PATIENCE)
    if holder is None:
        yield Finding("transactions", "ok", "none is open")
    elif holder.age > OLD_TRANSACTION:
        yield Finding(
            "transactions",
            "warn",
            f"the oldest is open since {ago(holder.age)}: {holder.what}",
            "It keeps dead rows from being removed, and claims get slower. End it: see "
            "pg_stat_activity; idle_in_transaction_session_timeout prevents it.",
            holder._asdict(),
        )
    else:
        text = f"the oldest is {ago(holder.age)} old".replace(" ago", "")
        yield Finding("transactions", "ok", text, data=holder._asdict())


def dead_rows(database: Database) -> Iterator[Finding]:
    """How many dead rows the jobs' table drags along."""
    from pgtasks.storage import health

    rows = database.run(health.dead_rows(), timeout=PATIENCE)
    vacuumed = "never" if rows.vacuumed is None else ago(rows.vacuumed)
    text = f"{rows.dead:,} of the jobs' table, last vacuumed {vacuumed}"
    if rows.dead > 50_000 and rows.dead > 5 * rows.live:
        yield Finding(
            "dead rows",
            "warn",
            text,
            "Is autovacuum on, and no old transaction open? vacuum pgtasks.jobs; helps now.",
            rows._asdict(),
        )
    else:
        yield Finding("dead rows", "ok", text, data=rows._asdict())
