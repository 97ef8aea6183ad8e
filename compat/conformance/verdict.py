"""Whether the bars hold: no failure beside the ledger, and nothing in it that passes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compat.conformance.suite import Run
from compat.conformance.targets import Targets, group_of
from compat.conformance.workshop import read_toml

__all__ = [
    "Difference",
    "Known",
    "Missing",
    "bars_of",
    "judge",
    "load_bars",
    "load_differences",
    "load_ledger",
    "load_missing",
]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Known:
    """A test that is known not to pass."""

    test: str
    reason: str
    outcome: str = "failed"
    user: str = ""  # what of it a user sees


@dataclass(frozen=True)
class Missing:
    """A name of Celery's that pgtasks does not have, or that takes something else."""

    name: str  # module:Name, or module:Class.member; * stands for anything
    reason: str
    instead: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Difference:
    """Something that behaves otherwise than in Celery, as a user sees it."""

    about: str
    celery: str
    here: str
    instead: str = ""


def load_bars(path: Path = HERE / "bars.toml") -> dict[str, list[str]]:
    """Files of the suite, and the classes of tests that must pass in each."""
    bars: dict[str, list[str]] = read_toml(path)["bars"]
    return bars


def load_ledger(path: Path = HERE / "ledger.toml") -> dict[str, Known]:
    """The tests that are known not to pass, by id; several may share an entry, ``tests``."""
    found = {}
    for entry in read_toml(path).get("known", []):
        rest = {key: value for key, value in entry.items() if key not in ("test", "tests")}
        for test in entry.get("tests") or [entry["test"]]:
            found[test] = Known(test, **rest)
    return found


def load_missing(path: Path = HERE / "ledger.toml") -> list[Missing]:
    """The names of Celery's public surface that are not here."""
    return [Missing(**entry) for entry in read_toml(path).get("missing", [])]


def load_differences(path: Path = HERE / "ledger.toml") -> list[Difference]:
    """What behaves otherwise."""
    return [Difference(**entry) for entry in read_toml(path).get("difference", [])]


def bars_of(
    run: Run, bars: dict[str, list[str]], classes: list[str]
) -> dict[str, list[str]]:
    """The bars that a run of these classes can tell something about."""
    return {
        path: [name for name in wanted if name in classes]
        for path, wanted in bars.items()
        if path in run.files and any(name in classes for name in wanted)
    }


def judge(
    run: Run, targets: Targets, bars: dict[str, list[str]], ledger: dict[str, Known]
) -> list[str]:
    """What is wrong with the bars that were run, a line each."""
    return [
        complaint
        for path, classes in bars.items()
        if path in run.files
        for complaint in _judge_file(path, classes, run, targets, ledger)
    ]


def _judge_file(
    path: str, classes: list[str], run: Run, targets: Targets, ledger: dict[str, Known]
) -> Iterator[str]:
    tests = {
        name: test
        for name, test in run.tests.items()
        if name.startswith(f"{path}::") and targets.class_of(name) in classes
    }
    failed: dict[str, list[str]] = defaultdict(list)
    for name, test in tests.items():
        known = ledger.get(name)
        if test.outcome == "passed" and known is not None and known.outcome == "failed":
            yield f"{name} passes: take it out of ledger.toml"
        elif test.outcome != "passed" and known is None:
            failed[f"{test.outcome}: {test.why or 'see the log'}"].append(name)
    for reason, names in failed.items():
        # A broken fixture fails hundreds of tests, and is told once.
        others = f" (and {len(names) - 1} others)" if len(names) > 1 else ""
        yield f"{names[0]}{others} {reason}"
    absent = targets.count([path], classes) - len(tests)
    if absent > 0:
        why = run.unloadable.get(path) or run.unloadable.get(group_of(path)) or "unknown"
        yield f"{path}: {absent} tests did not run ({why})"
