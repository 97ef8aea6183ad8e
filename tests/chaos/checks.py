"""What must be true after the storm, asked of the witnesses in SQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg


@dataclass(frozen=True)
class Check:
    """One promise: how many jobs break it, and which was the first."""

    name: str
    statement: str


ORDINARY = "task <> 'chaos.poison'"

CHECKS = [
    Check(
        "C2 jobs that never reached a final state",
        "select id from pgtasks.jobs",
    ),
    Check(
        "C3 jobs that were completed more than once",
        "select id from history where place = 'finished_jobs' and new_state = 'completed' "
        "and old_state is distinct from 'completed' group by id having count(*) > 1",
    ),
    Check(
        "C3b final rows that were overwritten, other than a verdict by the truth",
        "select id from history where place = 'finished_jobs' and old_state is not null "
        "and not (abandoned and old_state = 'discarded')",
    ),
    Check(
        "C4 results written by a run that no longer held the job",
        "select job.id from pgtasks.finished_jobs job "
        "join ledger mine on mine.task_id = job.task_id and mine.event = 'start' "
        "join ledger other on other.task_id = job.task_id and other.event = 'start' "
        "where job.state = 'completed' and job.result = '\"' || mine.run || '\"' "
        "and other.at > mine.at and other.at < job.finished_at",
    ),
    Check(
        "C5 transitions that are none",
        "select id from history where place = 'jobs' and old_state is not null "
        "and new_state is not null and (old_state, new_state) not in ("
        "('available', 'executing'), ('executing', 'available'), ('executing', 'executing'), "
        "('executing', 'retryable'), ('executing', 'scheduled'), ('scheduled', 'available'), "
        "('retryable', 'available'), ('available', 'available'))",
    ),
    Check(
        "C6/C7 jobs that were started more often than claimed",
        "select job.id from pgtasks.all_jobs job where "
        "(select count(*) from ledger where task_id = job.task_id and event = 'start') > "
        "(select count(*) from history where history.id = job.id and new_state = 'executing' "
        " and old_state = 'available')",
    ),
    Check(
        "C8 jobs rescued from a worker that was never declared dead",
        "select history.id from history join pgtasks.workers worker on worker.id = old_worker "
        "where place = 'jobs' and old_state = 'executing' and lost > 0 "
        "and worker.dead_at is null and worker.stopped_at is null",
    ),
    Check(
        "C9 jobs that are safe to run again and were given up all the same",
        "select id from pgtasks.finished_jobs where task = 'chaos.safe' and state <> 'completed'",
    ),
    Check(
        "C9b jobs that may run only once, given up although they had not begun",
        "select id from pgtasks.finished_jobs job where task = 'chaos.once' "
        "and state <> 'completed' and task_id not in (select task_id from begun)",
    ),
    Check(
        "C10 runs that overlapped while the first worker's lease was good",
        "select job.id from pgtasks.all_jobs job "
        "join ledger first on first.task_id = job.task_id and first.event = 'start' "
        "join ledger ending on ending.run = first.run and ending.event = 'end' "
        "join ledger second on second.task_id = job.task_id and second.event = 'start' "
        "where second.run <> first.run and second.at > first.at and second.at < ending.at "
        "and not exists (select from history h where h.id = job.id and h.lost > 0 "
        "                and h.at between first.at and second.at)",
    ),
    Check(
        "C11 jobs that may run only once and ran twice",
        "select min(id) from pgtasks.all_jobs join ledger using (task_id) "
        "where task = 'chaos.once' and event = 'start' "
        "group by task_id having count(distinct run) > 1",
    ),
    Check(
        "C13 poisonous jobs that were not given up, or only after more than three deaths",
        "select id from pgtasks.all_jobs job where task = 'chaos.poison' and (state <> 'discarded' "
        "or crashes > 3)",
    ),
]

RECOVERY = """
select percentile_cont(0.5) within group (order by seconds),
       percentile_cont(0.95) within group (order by seconds),
       max(seconds), count(*)
from (
    select extract(epoch from rescued.at - (
               select max(sign.at) from history sign
               where sign.id = rescued.id and sign.seq < rescued.seq
           )) as seconds
    from history rescued
    where rescued.place = 'jobs' and rescued.old_state = 'executing' and rescued.lost > 0
) as rescues
"""


def examine(
    url: str, logs: list[Path], begun: Path, say: Callable[[str], None] = print
) -> bool:
    """Run all checks, say what they found, and whether all promises were kept.

    Args:
        url: The database after the storm.
        logs: What the producers wanted and got.
        begun: Ids of the jobs whose tasks have run their first line.
        say: Where to say it.
    """
    intended, acknowledged = _read(logs)
    kept = True
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create temporary table begun (task_id text)")
        connection.execute(
            "insert into begun select unnest(%s::text[])", [begun.read_text().split()]
        )

        def rows(statement: str) -> list[tuple]:
            return connection.execute(statement).fetchall()

        present = {
            task_id
            for (task_id,) in rows("select task_id from pgtasks.all_jobs where " + ORDINARY)
        }
        say(f"jobs: {len(intended)} intended, {len(acknowledged)} acknowledged")
        for state, task, count in rows(
            "select state, task, count(*) from pgtasks.all_jobs group by 1, 2 order by 2, 1"
        ):
            say(f"  {task:14} {state:10} {count}")
        found = [
            ("C1 acknowledged inserts that are not there", sorted(acknowledged - present)),
            ("C1b rows that nobody intended", sorted(present - intended)),
            *((check.name, [id for (id,) in rows(check.statement)]) for check in CHECKS),
        ]
        for name, broken in found:
            kept = kept and not broken
            say(f"  {'FAIL' if broken else 'ok  '} {name}: {len(broken)}")
            if broken:
                _tell(connection, broken[0], say)
        [(median, high, longest, count)] = rows(RECOVERY)
        if count:
            say(
                f"recovery of {count} jobs: p50 {median:.1f} s, p95 {high:.1f} s, "
                f"longest {longest:.1f} s"
            )
            slow = high > 12
            kept = kept and not slow
            say(f"  {'FAIL' if slow else 'ok  '} p95 of the recovery is at most 12 s")
        [(again,)] = rows(
            "select count(*) from (select task_id from ledger where event = 'start' "
            "and task_id not like 'poison%' group by 1 having count(distinct run) > 1) x"
        )
        say(f"jobs run again: {again} of {len(intended)}")
    return kept


def _tell(connection: psycopg.Connection, job: object, say: Callable[[str], None]) -> None:
    """The whole history of the first job that broke a promise."""
    if not isinstance(job, int):
        say(f"       {job}")
        return
    for row in connection.execute("select * from pgtasks.all_jobs where id = %s", [job]):
        say(f"       {row}")
    for row in connection.execute(
        "select at::time, place, old_state, new_state, old_token, new_token, old_worker, lost "
        "from history where id = %s order by seq",
        [job],
    ):
        say("       " + " ".join(str(each) for each in row))
    for row in connection.execute(
        "select at::time, event, run, pid from ledger join pgtasks.all_jobs using (task_id) "
        "where id = %s order by seq",
        [job],
    ):
        say("       " + " ".join(str(each) for each in row))


def _read(logs: list[Path]) -> tuple[set[str], set[str]]:
    intended: set[str] = set()
    acknowledged: set[str] = set()
    for log in logs:
        for line in log.read_text().splitlines():
            kind, _, task_id = line.partition(" ")
            (intended if kind == "I" else acknowledged).add(task_id)
    return intended, acknowledged
