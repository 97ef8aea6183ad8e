"""Run the newsletter to its end: database, mail server, worker, 2,000 jobs, and the check.

    make demo                 from the root of the checkout
    make demo CHAOS=1         kills the worker in the middle and starts another

The program itself is tasks.py. This file sets up the surroundings that your program
has already, and compares what the database says with the mails that the mail server
really took.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from pgtasks.cli.demo_run import (
    DemoFailed,
    Killer,
    Tally,
    WorkerProcess,
    follow,
    step,
    stop_like_ctrl_c,
)
from pgtasks.dev.postgres import EmbeddedPostgresError, private_server
from pgtasks.exceptions import PgtasksError
from pgtasks.storage import schema
from pgtasks.storage.database import Database
from pgtasks.storage.query import Query, Row

HERE = Path(__file__).resolve().parent
QUEUE = "mailers"
CHILDREN = 4
CHAOS_LEASE = "3"

JOBS = """
    select args->0->>'email', state::text, lost
      from pgtasks.all_jobs
     where queue = %(queue)s
"""


class Job(NamedTuple):
    """What the database says about one subscriber's job."""

    address: str
    state: str
    lost: int


class Ledger(NamedTuple):
    """What the mail server says: mails it took and refusals it gave, by address."""

    accepted: Counter[str]
    refused: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> Ledger:
        accepted: Counter[str] = Counter()
        refused: dict[str, int] = {}
        for event in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if event["event"] == "accepted":
                accepted[event["address"]] += 1
            else:
                refused[event["address"]] = event["code"]
        return cls(accepted, refused)


class Check(NamedTuple):
    """Where the two disagree; each list should be empty, ``twice`` but for chaos."""

    missing: list[str]
    unwanted: list[str]
    unfinished: list[str]
    twice: list[str]
    unexplained: list[str]

    @property
    def passed(self) -> bool:
        wrong = (self.missing, self.unwanted, self.unfinished, self.unexplained)
        return not any(wrong) and len(self.twice) <= CHILDREN


def main() -> int:
    chaos = os.environ.get("CHAOS", "0") not in ("", "0")
    console = Console()
    stop_like_ctrl_c()
    try:
        with ExitStack() as cleanup:
            return run(console, cleanup, chaos=chaos)
    except (PgtasksError, EmbeddedPostgresError) as failure:
        console.print("\n[bold red]The demo stopped.[/]")
        console.print(str(failure), highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped. Nothing of the demo is left running.")
        return 130


def run(console: Console, cleanup: ExitStack, *, chaos: bool) -> int:
    """Build the surroundings, send the issue, show what came of it."""
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="newsletter-")))
    subscribers = read_subscribers()

    with step(console, "A private PostgreSQL with our tables"):
        server = cleanup.enter_context(private_server(durable=True))
        schema.apply(server.url)
    with step(console, "A mail server on loopback"):
        port = cleanup.enter_context(post_office(folder))
    os.environ["PGTASKS_DATABASE_URL"] = server.url
    os.environ["NEWSLETTER_SMTP_PORT"] = str(port)
    if chaos:
        os.environ["NEWSLETTER_LEASE"] = CHAOS_LEASE

    # Imported only now: it finds the database and the mail server in the environment.
    from tasks import app, send_issue

    options = ["-A", "tasks", "worker", "-Q", QUEUE, "-c", str(CHILDREN), "-l", "info"]
    worker = WorkerProcess(options, directory=HERE, log=folder / "worker.log")
    cleanup.callback(worker.stop)
    with step(console, f"pgtasks {' '.join(options)}"):
        worker.start()
    with step(console, f"send_issue.delay_many(…), {len(subscribers):,} jobs"):
        send_issue.delay_many((subscriber,) for subscriber in subscribers)

    killer = Killer(console, worker, at=len(subscribers) * 2 // 5)
    counts = follow(
        console,
        app.database,
        QUEUE,
        len(subscribers),
        worker=worker,
        watch=killer if chaos else None,
    )
    with step(console, "The worker stops"):
        worker.stop()

    ledger = Ledger.read(folder / "ledger.jsonl")
    check = compare(read_jobs(app.database), subscribers, ledger)
    show(console, counts, ledger)
    people = {subscriber["email"]: subscriber["name"] for subscriber in subscribers}
    explain(console, counts, check, people, chaos=chaos)
    return 0 if check.passed else 1


def read_subscribers() -> list[dict[str, str]]:
    with (HERE / "subscribers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextmanager
def post_office(folder: Path) -> Iterator[int]:
    """The mail server in a process of its own, and the port that it listens on."""
    log = folder / "postoffice.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, HERE / "postoffice.py", "--ledger", folder / "ledger.jsonl"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    assert process.stdin
    assert process.stdout
    try:
        port = process.stdout.readline()
        if not port:
            raise DemoFailed(
                f"The mail server did not start:\n\n{log.read_text(errors='replace')}\n"
                f"If aiosmtpd is missing: pip install -e '.[embedded,demo]'"
            )
        yield int(port)
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def read_jobs(database: Database) -> list[Job]:
    def read(rows: Sequence[Row]) -> list[Job]:
        return [Job(*row) for row in rows]

    return database.run(Query(JOBS, {"queue": QUEUE}, read))


def compare(jobs: list[Job], subscribers: list[dict[str, str]], ledger: Ledger) -> Check:
    """Hold the jobs against the mails: one for each completed job, none for any other."""
    taken = ledger.accepted
    state = {job.address: job.state for job in jobs}
    interrupted = {job.address for job in jobs if job.lost}
    addresses = [subscriber["email"] for subscriber in subscribers]
    twice = [address for address in taken if taken[address] > 1]
    return Check(
        missing=[a for a in addresses if state.get(a) == "completed" and not taken[a]],
        unwanted=[a for a in taken if state.get(a) != "completed"],
        unfinished=[a for a in addresses if state.get(a) not in ("completed", "discarded")],
        twice=twice,
        unexplained=[a for a in twice if taken[a] > 2 or a not in interrupted],
    )


def show(console: Console, counts: Tally, ledger: Ledger) -> None:
    """The two accounts of what happened, side by side."""
    answers = Counter(ledger.refused.values())
    table = Table(title="Issue 12", title_justify="left")
    table.add_column("")
    table.add_column("database", justify="right")
    table.add_column("mail server", justify="right")
    table.add_row("sent", f"{counts.completed:,}", f"{len(ledger.accepted):,}")
    table.add_row("retried (451)", f"{counts.retried:,}", f"{answers[451]:,}")
    table.add_row("snoozed (421)", f"{counts.snoozed:,}", f"{answers[421]:,}")
    table.add_row("discarded (550)", f"{counts.discarded:,}", f"{answers[550]:,}")
    table.add_section()
    table.add_row("seconds", f"{counts.seconds:.1f}", "")
    table.add_row("jobs/s", f"{counts.rate:,.0f}", "")
    console.print()
    console.print(table)


def explain(
    console: Console, counts: Tally, check: Check, people: dict[str, str], *, chaos: bool
) -> None:
    """The verdict, and the names behind it."""
    for what, addresses in (
        ("completed, but the mail server has no mail for", check.missing),
        ("not completed, but the mail server has a mail for", check.unwanted),
        ("neither completed nor discarded", check.unfinished),
        ("mailed twice, though their job was not interrupted", check.unexplained),
    ):
        if addresses:
            console.print(f"[bold red]{what}:[/] {', '.join(addresses)}")
    if check.twice:
        table = Table("mailed twice: under way at the kill", "address")
        for address in check.twice:
            table.add_row(people.get(address, "?"), address)
        console.print(table)
    if not check.passed:
        console.print("[bold red]The check failed.[/]")
        return
    twice = (
        f"{len(check.twice) or 'none'} of them twice (at most one for each of {CHILDREN} "
        f"processes)"
    )
    console.print(
        f"[bold green]Checked:[/] each of {counts.completed:,} subscribers got the letter, "
        f"{twice if chaos else 'exactly once'}; the {counts.discarded} discarded ones got none.",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
