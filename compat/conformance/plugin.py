"""A pytest plugin, loaded inside the suite: the alias, the choice of tests, the record.

It is loaded before anything can import Celery, and writes a line of JSON per test
as soon as that ends, so that a crash costs the rest and not the whole.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

import pgtasks_celery
from conformance.targets import Targets

alias = pgtasks_celery.install()
classes = set(os.environ["PGTASKS_CONFORMANCE_CLASSES"].split(","))
targets = Targets.load(os.environ["PGTASKS_CONFORMANCE_TARGETS"])
record = open(os.environ["PGTASKS_CONFORMANCE_RECORD"], "a", encoding="utf-8")  # noqa: SIM115
phases: dict[str, list[Any]] = defaultdict(list)

#: Tests that Celery skips everywhere and that are run here all the same, each in the
#: zone that it takes for granted: one where clocks are an hour ahead in June.
UNSKIPPED = {
    "t/unit/app/test_schedules.py::test_crontab_is_due::test_monthly_moy_execution_is_not_due": (
        "GMT0BST,M3.5.0/1,M10.5.0"
    ),
}

#: Seconds for tests that allow themselves too few: this one waits for tasks that sleep
#: for a minute, which Celery spares itself by finding the state of an earlier run.
PATIENCE = {
    "t/integration/test_tasks.py::test_tasks::test_revoked_by_headers_complex_canvas": 180
}


def pytest_configure(config: pytest.Config) -> None:
    # Ours is registered by the suite's conftest, and only if that loads.
    config.addinivalue_line("markers", "celery(**overrides): settings of a test's app")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = [item for item in items if targets.class_of(item.nodeid) in classes]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen
    for item in items:
        if item.nodeid in PATIENCE:
            item.add_marker(pytest.mark.timeout(PATIENCE[item.nodeid]), append=False)
        if item.nodeid in UNSKIPPED:
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "skip"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    if item.nodeid not in UNSKIPPED:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", UNSKIPPED[item.nodeid])
        time.tzset()
        try:
            return (yield)
        finally:
            patch.undo()
            time.tzset()


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        write(file=report.nodeid, why=last_line(report))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    phases[report.nodeid].append(report)


def pytest_runtest_logfinish(nodeid: str) -> None:
    reports = phases.pop(nodeid, [])
    failed = [report for report in reports if report.failed]
    seconds = round(sum(getattr(report, "duration", 0) for report in reports), 4)
    why = last_line(failed[0]) if failed else ""
    write(test=nodeid, outcome=outcome(reports), seconds=seconds, why=why)


def pytest_sessionfinish() -> None:
    # Whoever resolves a dotted name tries to import each part of it first.
    modules = (name for name in alias.missing if not is_attribute(name))
    write(missing=sorted(modules))


def is_attribute(name: str) -> bool:
    parent, _, attribute = name.rpartition(".")
    return hasattr(sys.modules.get(parent), attribute)


def outcome(reports: list[Any]) -> str:
    if any(report.failed for report in reports):
        return "failed"
    for report in reports:
        if hasattr(report, "wasxfail"):
            return "passed"  # as Celery expects it
        if report.skipped:
            return "skipped"
    return "passed"


def last_line(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A collection error ends with the exception, a failure begins with it.
    told = lines[0 if crash is not None else -1] if lines else ""
    return told.removeprefix("E ").strip()[:300]


def write(**line: Any) -> None:
    record.write(json.dumps(line) + "\n")
    record.flush()
