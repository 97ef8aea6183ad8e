"""Five beats and three workers with one schedule; whoever leads is harmed; then the checks.

    python -m tests.chaos.beats [--seconds 600] [--faults 100] [--seed 1] [--keep FOLDER]

Each tick must have led to one job, none may be lost, and none may come later than the
longest time in which a leader is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psycopg

from pgtasks.dev.postgres import Server, private_server
from pgtasks.plugins.runner import LEASE
from pgtasks.storage import schema
from tests.helpers import children

ROOT = Path(__file__).parents[2]

LONGEST = 10.0
"""Seconds that a tick may be late after whoever led was killed."""


class Program:
    """A beat or a worker, kept running as a service manager would."""

    def __init__(self, words: list[str], folder: Path, url: str) -> None:
        self.words, self.folder, self.url = words, folder, url
        self.away_until = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        """Start it, if it has ended and has been away for long enough."""
        ended = self.process is None or self.process.poll() is not None
        if not ended or time.monotonic() < self.away_until:
            return
        with (self.folder / f"{self.words[-1]}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pgtasks",
                    "-A",
                    "tests.chaos.ticking:app",
                    *self.words,
                ],
                cwd=ROOT,
                env={**os.environ, "CHAOS_URL": self.url},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def send(self, kind: signal.Signals) -> None:
        if self.process is None:
            return
        for pid in [self.process.pid, *children(self.process.pid)]:
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                pass


class Fleet:
    """All of them, and the harm that is done to whoever leads."""

    def __init__(self, server: Server, folder: Path, seed: int) -> None:
        self.server = server
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        url = server.url
        self.programs = [
            Program(["beat", "-l", "info", "-n", f"beat{number}"], folder, url)
            for number in range(5)
        ] + [
            Program(
                ["worker", "-Q", "ticks", "-l", "info", "-n", f"w{number}@chaos"],
                folder,
                url,
            )
            for number in range(3)
        ]

    def tend(self) -> None:
        for program in self.programs:
            program.tend()

    def leader(self) -> Program | None:
        """Who sends the schedule at this moment, and has sent all that is due.

        One that has just been elected, and was struck at once, would make the next wait for
        two leases: that is the doing of two faults, and not of one.
        """
        try:
            with psycopg.connect(self.server.url, connect_timeout=3) as connection:
                row = connection.execute(
                    "select node from pgtasks.leaders where office like 'cron:ticking:%' "
                    "and expires_at > clock_timestamp() and (select max(tick) "
                    "from pgtasks.cron_ticks) > clock_timestamp() - interval '1.5 s'"
                ).fetchone()
        except psycopg.Error:
            return None
        if row is None:
            return None
        for program in self.programs:
            process = program.process
            if process is None or process.poll() is not None:
                continue
            if row[0].startswith((f"celerybeat{process.pid}@", f"{program.words[-1]}")):
                return program
        return None

    def strike(self) -> bool:
        """Do harm to the leader; False if there is none just now."""
        leader = self.leader()
        if leader is None or leader.process is None:
            return False
        kind = self.chance.choice(
            ["kill", "kill", "stop", "terminate", "fast", "immediate"]
        )
        if kind == "kill":
            leader.process.kill()
            leader.process.wait()
            leader.away_until = time.monotonic() + self.chance.uniform(0.2, 3.0)
        elif kind == "stop":
            leader.send(signal.SIGSTOP)
            seconds = 2 * LEASE
            leader.away_until = time.monotonic() + seconds + 0.5
            threading.Timer(seconds, leader.send, (signal.SIGCONT,)).start()
        elif kind == "terminate":
            try:
                with psycopg.connect(self.server.url, autocommit=True) as connection:
                    connection.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity "
                        "where application_name like 'pgtasks%' and pid <> pg_backend_pid()"
                    )
            except psycopg.Error:
                return False
        else:
            self.server.restart(kind)
        self.counts[kind] += 1
        return True

    def end(self) -> None:
        for program in self.programs:
            program.send(signal.SIGCONT)
            if program.process is not None:
                program.process.terminate()
        for program in self.programs:
            if program.process is not None:
                try:
                    program.process.wait(30)
                except subprocess.TimeoutExpired:
                    program.process.kill()
                    program.process.wait()

    def kill(self) -> None:
        for program in self.programs:
            if program.process is not None:
                program.send(signal.SIGKILL)
                program.process.wait()


def main() -> int:
    """Run; the answer is 0 when every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.beats", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the logs")
    parser.add_argument(
        "--longest", type=float, default=LONGEST, help="seconds that a tick may be late"
    )
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="pgtasks-beats-"))
    folder.mkdir(parents=True, exist_ok=True)
    with private_server(durable=True) as server:
        schema.apply(server.url)
        fleet = Fleet(server, folder, options.seed)
        try:
            storm(fleet, options.seconds, options.faults)
            kept = examine(server.url, options.longest)
        finally:
            fleet.kill()
    faults = sum(fleet.counts.values())
    print(f"{faults} faults in {options.seconds:.0f} s: {dict(fleet.counts)}")
    kept = kept and faults >= options.faults * 0.8
    print("PASS" if kept else f"FAIL (logs in {folder}, seed {options.seed})")
    return 0 if kept else 1


def storm(fleet: Fleet, seconds: float, faults: int) -> None:
    """Do harm at random moments, then let things come to rest."""
    began = time.monotonic()
    gap = seconds / (faults + 1)
    next_strike = min(gap, 10.0)
    while (now := time.monotonic() - began) < 3 * seconds:
        if now >= seconds and sum(fleet.counts.values()) >= faults * 0.8:
            break
        fleet.tend()
        if now >= next_strike and fleet.strike():
            next_strike += fleet.chance.uniform(0.5, 1.5) * gap
            next_strike = max(next_strike, now + 0.2)
        time.sleep(0.05)
    calm = time.monotonic() + 2 * LEASE + 2.0
    while time.monotonic() < calm:
        fleet.tend()
        time.sleep(0.1)
    fleet.end()


def examine(url: str, longest: float) -> bool:
    """Look at the tables."""
    with psycopg.connect(url, autocommit=True) as connection:
        fetch = lambda statement: connection.execute(statement).fetchall()  # noqa: E731
        [(ticks, span, first_gap, late, middle)] = fetch(
            """
            select count(*), extract(epoch from max(tick) - min(tick))::float8 + 1,
                   (select max(step) from (select tick - lag(tick) over (order by tick) as step
                                           from pgtasks.cron_ticks) as steps),
                   max(extract(epoch from inserted_at - tick))::float8,
                   percentile_cont(0.5) within group (
                       order by extract(epoch from inserted_at - tick))::float8
            from pgtasks.cron_ticks
            """
        )
        [(jobs, known, twice)] = fetch(
            """
            with jobs as (
                select headers::json -> 'headers' ->> 'cron_tick' as tick, task_id
                from (select headers, task_id from pgtasks.jobs
                      union all
                      select headers, task_id from pgtasks.finished_jobs) as rows
            )
            select (select count(*) from jobs),
                   (select count(*) from pgtasks.cron_ticks as tick
                    where exists (select from jobs where jobs.tick::timestamptz = tick.tick
                                                     and jobs.task_id = tick.task_id)),
                   (select count(*) from (select tick from jobs group by tick
                                          having count(*) > 1) as more)
            """
        )
        terms = fetch("select sum(term) from pgtasks.leaders where office like 'cron:%'")[
            0
        ][0]
        states = fetch("select state::text, count(*) from pgtasks.all_jobs group by 1")
    print(f"{ticks} ticks in {span:.0f} s under {terms} terms; longest step {first_gap}")
    print(
        f"{jobs} jobs, {known} of them those of their ticks, {twice} ticks twice: {states}"
    )
    print(
        f"latest tick {late:.2f} s after its time, half of them within {middle * 1e3:.1f} ms"
    )
    return bool(
        ticks >= 5
        and abs(ticks - span) < 0.5
        and jobs == known == ticks
        and twice == 0
        and late <= longest
    )


if __name__ == "__main__":
    raise SystemExit(main())
