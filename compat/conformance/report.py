"""What is printed: the table by group, what did not pass, what the bars say."""

from __future__ import annotations

from collections.abc import Sequence

from compat.conformance.suite import Run
from compat.conformance.targets import Targets, group_of

__all__ = ["complaints", "failures", "table"]

#: As many bars are named; of more it is told how many they are.
NAMED = 5


def table(targets: Targets, run: Run, classes: Sequence[str]) -> None:
    """A row per group: passed of all, by class; skipped; seconds."""
    _row("group", [*classes, "skipped", "seconds"])
    for group, seconds in run.seconds.items():
        files = [path for path in run.files if group_of(path) == group]
        _row(group, [*_counts(targets, run, classes, files), f"{seconds:.0f}"])
    total = f"{sum(run.seconds.values()):.0f}"
    _row("all", [*_counts(targets, run, classes, run.files), total])
    for place, why in run.unloadable.items():
        print(f"\n{place} does not load: {why}")
    if run.missing:
        print(f"\nAsked for, without a counterpart: {', '.join(sorted(run.missing))}")


def failures(run: Run) -> None:
    """Every test that did not pass, and why."""
    for name, test in run.tests.items():
        if test.outcome == "failed":
            print(f"{name}\n    {test.why}")


def complaints(found: Sequence[str], bars: Sequence[str]) -> None:
    """What is wrong with the bars, or that nothing is."""
    if not found:
        named = ", ".join(bars) if len(bars) <= NAMED else f"{len(bars)} files"
        print(f"The bars hold: {named or 'none was run'}.")
        return
    print(f"\nThe bars do not hold ({len(found)}):")
    for complaint in found:
        print(f"  {complaint}")


def _counts(
    targets: Targets, run: Run, classes: Sequence[str], files: Sequence[str]
) -> list[str]:
    """Passed of all for each class, and how many were skipped."""
    tests = [(name, t) for name, t in run.tests.items() if name.partition("::")[0] in files]
    passed = [targets.class_of(name) for name, test in tests if test.outcome == "passed"]
    skipped = sum(test.outcome == "skipped" for _, test in tests)
    wholes = {name: targets.count(files, [name]) for name in classes}
    shares = [f"{passed.count(n)}/{whole}" if whole else "-" for n, whole in wholes.items()]
    return [*shares, str(skipped)]


def _row(name: str, cells: Sequence[str]) -> None:
    print(f"{_short(name):22}" + "".join(f"{cell:>12}" for cell in cells))


def _short(group: str) -> str:
    """A group that is a file goes by its name, which is long enough."""
    return group.rpartition("/")[2].removesuffix(".py") if group.endswith(".py") else group
