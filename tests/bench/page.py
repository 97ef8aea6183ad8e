"""The reference page: the table, the method, the machine, and every round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.bench.measures import (
    FULL,
    MEASURES,
    OPEN_FOR,
    PRODUCERS,
    REST,
    TRANSACTIONS,
    WARM,
    Sizes,
)
from tests.bench.report import HEADINGS, Findings, number, rows, text_table
from tests.bench.systems import COROUTINES, NAMES, WORKER

__all__ = ["page"]

_INTRODUCTION = """\
# Benchmarks

<!-- Written by `python -m tests.bench --write`. Changes by hand get lost. -->

pgtasks beside Celery {celery} on Redis and on RabbitMQ:
one machine, one run of {rounds} rounds, which ended on {date}.

Figures are medians of the rounds.
“Better than” is how many times: the median of what two systems did in the same round.
That, and processor time per job, carry over to other machines; rates and latencies do not.
[Run the benchmarks](../how-to/run-the-benchmarks.md) says how to get yours."""

_METHOD = """\
## What is measured

All systems run [the same program](../../tests/bench/program.py);
only its import differs.
Its task stores the time into shared memory and returns a number.
Rounds are interleaved: each measure is made once with every system, in random order,
before any is repeated.

Settings are those of a new installation.
Workers run as `{worker}`.
Results are kept: by us in PostgreSQL, by Celery in Redis.

Durability differs, to Celery's advantage.
Our PostgreSQL has `fsync`, `full_page_writes` and `synchronous_commit` on,
256 MB of shared buffers, and a new database for each measurement.
RabbitMQ's queue is durable, but Celery does not wait until a message has been written.
Redis runs without persistence: nothing in it survives a restart.

* **drain**: {sizes.drain:,} jobs wait when the worker starts.
  The rate is from the first job's start to the last one's.
  Processor time is what the kernel charged to all processes of worker and servers,
  from the first job until half a second after the last.
* **`delay()` one by one**: {sizes.one:,} calls by one process.
  Ours return when the job is on disk; with `delivery_mode='transient'` they do not wait
  for that.
* **bulk enqueue**: {sizes.bulk:,} jobs in one call of `delay_many()`.
  Celery has no such call; its figure is a loop of {sizes.loop:,} with a kept producer.
* **idle**: {sizes.idle} jobs after {warm} to get warm,
  with random pauses of {pause[0]:.0f} to {pause[1]:.0f} ms; then as many with `.get()`.
* **{producers} producers**: each inserts jobs one by one for {sizes.hammer:g} s,
  with notifications to sleeping workers, and for comparison with none.
  A busy worker has a backlog of tasks that take 5 ms each.
  One that keeps up runs the jobs that are inserted: it falls asleep and is woken often.
* **transaction open {open_for:.0f} ms**: {sizes.lent} jobs are inserted with `connection=`
  in transactions that stay open, {transactions} at a time.
* **due at random times**: {sizes.due:,} jobs, sent before, due within {sizes.span:g} s.
* **far-future jobs**: the proportional set size (PSS) of the worker's processes
  after {sizes.far:,} jobs that are due in ten hours, against before.
  Celery, which keeps them in the worker, gets {sizes.far_peers:,}.
* **worker**: from the start of its process to the signal `worker_ready`;
  then the proportional set size of its processes, once it does not change any more.
* **`async def` tasks**: {sizes.rests} that wait {rest:g} s each, in a worker that runs with
  `{coroutines}`.
  The time is from the call that sends them to the end of the last one;
  the memory is the most that its processes have resident meanwhile, against before.
* **transaction open elsewhere**: the drain rate of {sizes.chunk:,} jobs,
  after {sizes.between:,} that ran while a transaction kept dead rows from being vacuumed,
  against the rate before it was opened.
* **`-E`**: the drain rate of {sizes.drain:,} jobs by a worker that tells of each of them,
  while somebody listens (and reads nothing: the reader's own work is not counted),
  against that of a worker without `-E`, twice each, in turn."""

_ROUNDS = """\
## Every round

Names end in the unit: `_us` microseconds, `_ms`, `_s`, `_mb` MiB.
`rate`, `before`, `open_1` and so on, `…_with` and `…_without` wake-ups,
`without` events, `listened` and `unheard` are jobs per second.
`others` is how many processors the rest of the machine kept busy meanwhile."""


def page(
    findings: Findings,
    *,
    rounds: int,
    date: str,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    notes: Sequence[str],
    sizes: Sizes = FULL,
) -> str:
    """The whole page as Markdown."""
    celery = versions.get("Celery", "")
    introduction = _INTRODUCTION.format(celery=celery, rounds=rounds, date=date)
    method = _METHOD.format(
        sizes=sizes,
        worker=WORKER,
        warm=WARM,
        pause=[1e3 * each for each in sizes.pause],
        producers=PRODUCERS,
        open_for=1e3 * OPEN_FOR,
        rest=REST,
        coroutines=COROUTINES,
        transactions=TRANSACTIONS,
    )
    where = [[name, value] for name, value in {**machine, **versions}.items()]
    parts = [
        introduction.replace("Celery  on", "Celery on"),
        text_table(HEADINGS, (row.cells for row in rows(findings))),
        "\n".join(f"* {note}" for note in notes),
        method,
        "## Where",
        text_table(["", ""], where),
        _ROUNDS,
        *_raw(findings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _raw(findings: Findings) -> Iterator[str]:
    measures, systems = list(MEASURES), list(NAMES)
    for (measure, system), rounds in sorted(
        findings.rounds.items(),
        key=lambda each: (measures.index(each[0][0]), systems.index(each[0][1])),
    ):
        keys = dict.fromkeys(key for numbers in rounds for key in numbers or {})
        lines = [
            [str(round_), *(number((numbers or {}).get(key)) for key in keys)]
            for round_, numbers in enumerate(rounds, 1)
        ]
        yield f"**{measure}, {NAMES[system]}**\n\n{text_table(['round', *keys], lines)}"
