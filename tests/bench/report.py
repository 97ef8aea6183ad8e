"""The findings as a table: our figures beside the peers', with the bars they must reach."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.bench.measures import Numbers
from tests.bench.systems import NAMES

__all__ = ["HEADINGS", "LINES", "Findings", "Line", "number", "rows", "text_table"]

PEERS = [name for name in NAMES if name != "pgtasks"]
HEADINGS = ["", *NAMES.values(), "better than Redis", "than RabbitMQ", "bar", "met"]


@dataclass
class Findings:
    """What was measured.

    Attributes:
        rounds: By measure and system the numbers of each round, None where it failed.
    """

    rounds: dict[tuple[str, str], list[Numbers | None]] = field(default_factory=dict)

    def add(self, measure: str, system: str, numbers: Numbers | None) -> None:
        """Note the numbers of one more round."""
        self.rounds.setdefault((measure, system), []).append(numbers)

    def values(self, measure: str, system: str, key: str) -> list[float]:
        """The values of one number in the rounds that have it."""
        return [
            numbers[key]
            for numbers in self.rounds.get((measure, system), [])
            if numbers is not None and key in numbers
        ]

    def median(self, measure: str, system: str, key: str) -> float | None:
        """The median over the rounds."""
        values = self.values(measure, system, key)
        return statistics.median(values) if values else None

    def quotient(self, measure: str, systems: tuple[str, str], key: str) -> float | None:
        """The median of one system's value over the other's in the same round.

        The two of one round met the same noise of the machine; those of different rounds
        did not.
        """
        above, below = (self.rounds.get((measure, system), []) for system in systems)
        quotients = [
            one[key] / other[key]
            for one, other in zip(above, below)  # noqa: B905 - one may have failed to come
            if one and other and key in one and other.get(key)
        ]
        return statistics.median(quotients) if quotients else None

    @property
    def failures(self) -> int:
        """How many measurements failed."""
        return sum(each is None for rounds in self.rounds.values() for each in rounds)


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        measure: Where the number is from.
        key: The number.
        title: What it is.
        unit: Printed behind it.
        more_is_better: Whether it is a rate and not a cost.
        bar: What our median must reach, if that is asked.
        times: By peer, how many times better than it we must be.
    """

    measure: str
    key: str
    title: str
    unit: str
    more_is_better: bool = True
    bar: float | None = None
    times: Mapping[str, float] = field(default_factory=dict)


LINES = (
    Line(
        "drain", "cpu_us", "drain: processor time per job, all processes", "µs", False, 150
    ),
    Line("drain", "rate", "drain", "jobs/s", times={"redis": 8, "rabbitmq": 5}),
    Line("enqueue", "rate", "`delay()` one by one", "jobs/s", times={"redis": 1.5}),
    Line(
        "enqueue", "transient_rate", "the same with `delivery_mode='transient'`", "jobs/s"
    ),
    Line("bulk", "rate", "bulk enqueue, ids returned", "jobs/s", bar=25_000),
    Line(
        "idle",
        "start_p50_ms",
        "idle: `delay()` → start, p50",
        "ms",
        False,
        None,
        {"redis": 1},
    ),
    Line(
        "idle",
        "start_p99_ms",
        "idle: `delay()` → start, p99",
        "ms",
        False,
        None,
        {"redis": 1},
    ),
    Line("idle", "get_p50_ms", "idle: `delay().get()`, p50", "ms", False),
    Line("idle", "get_p99_ms", "idle: `delay().get()`, p99", "ms", False),
    Line("eight", "busy", "8 producers, worker busy: rate with wake-ups", "%", bar=80),
    Line("eight", "keeping_up", "8 producers, worker keeping up: the same", "%"),
    Line(
        "lend",
        "start_p99_ms",
        "transaction open 500 ms: commit → start, p99",
        "ms",
        False,
        100,
    ),
    Line("due", "late_p50_ms", "due at random times: lateness, p50", "ms", False, 15),
    Line("due", "late_p99_ms", "due at random times: lateness, p99", "ms", False, 100),
    Line(
        "memory", "more_mb", "far-future jobs: memory added to the worker", "MB", False, 5
    ),
    Line(
        "standby",
        "ready_s",
        "worker: start-up to ready",
        "s",
        False,
        times={"redis": 1, "rabbitmq": 1},
    ),
    Line(
        "standby",
        "pss_mb",
        "worker: memory while idle (PSS)",
        "MB",
        False,
        times={"redis": 1, "rabbitmq": 1},
    ),
    Line("coroutines", "rest_s", "500 `async def` tasks that wait 1 s each", "s", False, 3),
    Line(
        "coroutines",
        "more_rss_mb",
        "the same: memory added to the worker (RSS)",
        "MB",
        False,
        60,
    ),
    Line(
        "canvas", "chord_ms", "chord of 1,000 and `get()`", "ms", False, times={"redis": 10}
    ),
    Line(
        "canvas",
        "chord_cpu_ms",
        "the same: processor time of the caller",
        "ms",
        False,
        times={"redis": 20},
    ),
    Line(
        "canvas",
        "chord_call_cpu_ms",
        "the same: of the call alone, without `get()`",
        "ms",
        False,
    ),
    Line(
        "canvas", "group_ms", "group of 1,000 and `get()`", "ms", False, times={"redis": 10}
    ),
    Line("canvas", "chain_ms", "chain of 200 and `get()`", "ms", False, times={"redis": 2}),
    Line("bloat", "kept", "transaction open elsewhere: drain rate kept", "%", bar=70),
    Line("events", "kept", "`-E`, somebody listens: drain rate kept", "%", bar=85),
    Line("events", "kept_unheard", "`-E`, nobody listens: the same", "%"),
    Line(
        "events",
        "more_us",
        "`-E`, somebody listens: processor time a job more",
        "µs",
        False,
    ),
)


class Row(NamedTuple):
    """A line with its findings, as text."""

    cells: list[str]
    met: bool | None


def rows(findings: Findings) -> list[Row]:
    """The table's rows, for the measures that have been made."""
    measured = {measure for measure, _ in findings.rounds}
    return [_row(line, findings) for line in LINES if line.measure in measured]


def _row(line: Line, findings: Findings) -> Row:
    medians = {name: findings.median(line.measure, name, line.key) for name in NAMES}
    better = {peer: _times_better(line, peer, findings) for peer in PEERS}
    bars, verdicts = [], []
    if line.bar is not None:
        bars.append(f"{'≥' if line.more_is_better else '≤'} {_with(line.unit, line.bar)}")
        verdicts.append(_reaches(medians["pgtasks"], line.bar, line.more_is_better))
    for peer, times in line.times.items():
        bars.append(f"≥ {times:g} × {NAMES[peer].rpartition(' ')[2]}")
        verdicts.append(_reaches(better[peer], times, True))
    met = None
    if False in verdicts or (verdicts and None not in verdicts):
        met = False not in verdicts
    cells = [
        line.title,
        *(_with(line.unit, value) + _number_of_jobs(line, name, findings)
          for name, value in medians.items()),
        *("" if value is None else f"{value:.1f} ×" for value in better.values()),
        ", ".join(bars),
        {True: "yes", False: "**no**", None: "unknown" if bars else ""}[met],
    ]  # fmt: skip
    return Row(cells, met)


def _times_better(line: Line, peer: str, findings: Findings) -> float | None:
    if _number_of_jobs(line, peer, findings):
        return None
    pair = ("pgtasks", peer) if line.more_is_better else (peer, "pgtasks")
    return findings.quotient(line.measure, pair, line.key)


def _number_of_jobs(line: Line, system: str, findings: Findings) -> str:
    """How many it was, where systems get different numbers and cannot be compared."""
    jobs = findings.median(line.measure, system, "jobs")
    return "" if jobs is None else f" by {jobs:,.0f} jobs"


def _reaches(value: float | None, bar: float, more_is_better: bool) -> bool | None:
    if value is None:
        return None
    return value >= bar if more_is_better else value <= bar


def _with(unit: str, value: float | None) -> str:
    return "" if value is None else f"{number(value)} {unit}"


def number(value: float | None) -> str:
    """A value in three digits, or in all of a large number's."""
    if value is None:
        return ""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def text_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table with its columns in line, for pages and terminals."""
    cells = [list(headings), *map(list, lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    )
