"""The command: prepare a workshop, run groups of Celery's tests, print the table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from compat.conformance import report
from compat.conformance.adapted import load_adapted, unmapped
from compat.conformance.integration import FOLDER
from compat.conformance.packages import CELERY, DJANGO_CELERY_BEAT
from compat.conformance.suite import Suite
from compat.conformance.targets import CLASSES, Targets
from compat.conformance.verdict import bars_of, judge, load_bars, load_ledger
from compat.conformance.workshop import Trouble, Workshop


def main(argv: list[str] | None = None) -> int:
    """Run the suite; 0 when the bars hold that it ran into."""
    options = arguments().parse_args(argv)
    package = DJANGO_CELERY_BEAT if options.django_celery_beat else CELERY
    targets = Targets.load(package.targets)
    # All of the tests of another package that apply are its bar.
    bars = load_bars() if package is CELERY else {path: ["P0"] for path in targets.files}
    folder = FOLDER if options.integration else "t/unit"
    below = [path for path in bars if path.startswith(folder)]
    where = options.where or (below if options.bars else [folder])
    files = targets.below([place.partition("::")[0] for place in where], options.classes)
    if not files:
        print(f"No test of class {', '.join(options.classes)} below {' '.join(where)}.")
        return 2
    only = parts(where)
    started = time.monotonic()
    try:
        workshop = Workshop.open(package, fresh=options.fresh)
        suite = Suite(workshop, targets, options.classes, options.timeout, only)
        run = suite.run(files, progress=lambda text: print(text, flush=True))
    except Trouble as trouble:
        print(f"conformance: {trouble}", file=sys.stderr)
        return 2
    print()
    report.table(targets, run, options.classes)
    results = Path(options.json or workshop.path / "results.json")
    results.write_text(json.dumps(run.as_json(), indent=1), encoding="utf-8")
    seconds = time.monotonic() - started
    print(f"\n{seconds:.0f} s. Results: {results}. Logs: {workshop.logs}.")
    if options.failures:
        report.failures(run)
    if options.no_check:
        return 0
    # Part of a file tells nothing about its bar.
    whole = {path: names for path, names in bars.items() if path not in only}
    ran = bars_of(run, whole, options.classes)
    complaints = judge(run, targets, ran, load_ledger())
    if "A1" in options.classes:
        complaints += unmapped(load_adapted(), workshop.path / "suite", run, targets)
    report.complaints(complaints, list(ran))
    return 1 if complaints else 0


def parts(where: Sequence[str]) -> dict[str, list[str]]:
    """Of the places that are tests, not files: the tests by file."""
    found: dict[str, list[str]] = {}
    for place in where:
        path, colons, _ = place.partition("::")
        if colons:
            found.setdefault(path, []).append(place)
    return found


def arguments() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        prog="python3 -m compat.conformance", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "where",
        nargs="*",
        help="files or directories of the suite, such as t/unit/app, or tests, such as "
        "t/integration/test_canvas.py::test_chain (default: t/unit)",
    )
    parser.add_argument(
        "--integration",
        action="store_true",
        help="run t/integration, with a worker over a PostgreSQL: a quarter of an hour",
    )
    parser.add_argument(
        "--classes",
        default=["P0", "P1", "A1", "P2"],
        type=lambda text: [name.upper() for name in text.split(",")],
        help=f"classes of tests to run, of {','.join(CLASSES)} (default: P0,P1,A1,P2)",
    )
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="count only. Otherwise it fails if a bar of bars.toml does not hold: a failure "
        "that ledger.toml does not list, or a pass of a test that it does",
    )
    parser.add_argument("--bars", action="store_true", help="run only what the bars need")
    parser.add_argument("--failures", action="store_true", help="list what did not pass")
    parser.add_argument("--json", metavar="FILE", help="where to write the results")
    parser.add_argument(
        "--django-celery-beat",
        action="store_true",
        help="run the tests of django-celery-beat instead of Celery's own",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        help="seconds that one test may take (default: 120, of "
        "the integration tests, which wait for what must not come, 600)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="download and install everything anew"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
