"""``python -m tests.bench``: measure, print the table, write the page."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from tests.bench import machine, report
from tests.bench.measures import FULL, MEASURES, QUICK, Numbers, Sizes
from tests.bench.page import page
from tests.bench.systems import NAMES, ROOT, Field, field_of

PAGE = ROOT / "docs" / "reference" / "benchmarks.md"


def main() -> int:
    """Run what is asked for; the exit code tells whether everything could be measured."""
    options = _options()
    if not sys.platform.startswith("linux"):
        print("The benchmarks read /proc, so they run on Linux only.", file=sys.stderr)
        return 2
    # Servers and workers are ended on the way out, which the default would skip.
    signal.signal(signal.SIGTERM, _interrupted)
    sizes = QUICK if options.quick else FULL
    findings = report.Findings()
    load = os.getloadavg()[0]
    folder = tempfile.TemporaryDirectory(prefix="pgtasks-bench-", dir=_shared_memory())
    with folder as path, field_of(options.systems, Path(path)) as field:
        for name, reason in field.absent.items():
            print(f"Without {NAMES[name]}: {reason}\n", file=sys.stderr)
        for number in range(1, options.rounds + 1):
            _round(number, field, options, sizes, findings)
    notes = [f"{NAMES[name]} is absent: {why}" for name, why in field.absent.items()]
    notes += _notes(findings, load)
    if options.quick:
        notes.append(
            "This run was a quick one: it shows that the benchmark works, and no speed."
        )
    rows = report.rows(findings)
    print("", report.text_table(report.HEADINGS, (row.cells for row in rows)), "", sep="\n")
    print(*notes, sep="\n")
    if options.write:
        text = page(
            findings,
            rounds=options.rounds,
            date=time.strftime("%-d %B %Y"),
            machine=machine.describe(),
            versions=field.versions,
            notes=notes,
        )
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        print(f"\nWritten to {PAGE.relative_to(ROOT)}.")
    return 1 if findings.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure pgtasks beside Celery on Redis and on RabbitMQ.",
        epilog=f"Measures: {', '.join(MEASURES)}. Systems: {', '.join(NAMES)}.",
    )
    add = parser.add_argument
    add("--rounds", type=int, help="how often, 3 by default and 1 if quick")
    add("--only", type=_names_of(MEASURES), default=list(MEASURES), help="measures")
    add("--systems", type=_names_of(NAMES), default=list(NAMES), help="systems")
    add("--quick", action="store_true", help="see within a minute that it works")
    add("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--quick measures too little to be published; leave it or --write out")
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    return options


def _names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"there is no {unknown[0]!r}; there are {', '.join(known)}"
            )
        return chosen

    return names


def _round(
    number: int,
    field: Field,
    options: argparse.Namespace,
    sizes: Sizes,
    findings: report.Findings,
) -> None:
    for name in options.only:
        measure = MEASURES[name]
        peers = measure.peers and (measure.quick_peers or not options.quick)
        systems = [
            system
            for system in field.systems
            if system.name in options.systems and (system.ours or peers)
        ]
        random.shuffle(systems)
        for system in systems:
            began = time.monotonic()
            numbers: Numbers | None = None
            try:
                system.empty(system)
                numbers = measure.run(system, sizes)
            except Exception as error:
                # A measurement that fails costs its own figure, not all the others.
                said = f"failed: {type(error).__name__}: {error}"
            else:
                said = "  ".join(f"{key} {value:.5g}" for key, value in numbers.items())
            findings.add(name, system.name, numbers)
            took = time.monotonic() - began
            print(f"[{number}] {name:8}{system.name:9}{took:5.1f} s  {said}", flush=True)


def _notes(findings: report.Findings, load: float) -> list[str]:
    others = [
        numbers["others"]
        for rounds in findings.rounds.values()
        for numbers in rounds
        if numbers and "others" in numbers
    ]
    notes = []
    if others and max(others) > 0.2:
        notes.append(
            f"The machine was not ours alone: during drains, others kept up to "
            f"{max(others):.1f} of its {os.cpu_count()} processors busy "
            f"(load {load:.1f} at the start)."
        )
    if findings.failures:
        notes.append(f"{findings.failures} measurements failed; their figures are missing.")
    return notes


def _shared_memory() -> str | None:
    """Where a store into a file costs no disk: boards must not disturb the measurement."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _interrupted(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
