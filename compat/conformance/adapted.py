"""Tests of Celery's that cannot run as they are, and the tests of ours in their place."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from compat.conformance.suite import Run
from compat.conformance.targets import Targets
from compat.conformance.workshop import read_toml

__all__ = ["LEDGER", "Adapted", "functions", "load_adapted", "unmapped"]

HERE = Path(__file__).parent
LEDGER = "ledger: "
"""Begins what stands in place of a test where we differ: the subject in ledger.toml."""

Adapted = Mapping[str, Mapping[str, list[str]]]
"""By file and name of Celery's test: our tests, ``path::name``, or a `LEDGER` entry."""


def load_adapted(path: Path = HERE / "adapted.toml") -> Adapted:
    """What adapted.toml says."""
    return {
        file: {
            test: [ours] if isinstance(ours, str) else ours for test, ours in tests.items()
        }
        for file, tests in read_toml(path).items()
    }


def functions(path: Path) -> set[str]:
    """Names of the tests in a file, ``Class::name`` where they are in a class."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef):
                    found.add(f"{node.name}::{each.name}")
    return {name for name in found if name.rpartition("::")[2].startswith("test")}


def unmapped(adapted: Adapted, suite: Path, run: Run, targets: Targets) -> Iterator[str]:
    """Tests of class A1 that neither pass as they are nor stand in adapted.toml.

    Args:
        adapted: What adapted.toml says; its files are looked at.
        suite: Where Celery's suite is.
        run: What came out.
        targets: The classes of all tests.
    """
    for path, tests in adapted.items():
        if path not in run.files:
            continue
        there = functions(suite / path)
        for name in sorted(set(tests) - there):
            yield f"{path}::{name} stands in adapted.toml and is no test of Celery's"
        failed = {
            test.partition("::")[2].partition("[")[0]
            for test, result in run.tests.items()
            if test.startswith(f"{path}::") and result.outcome != "passed"
        }
        passed = {
            test.partition("::")[2].partition("[")[0]
            for test in run.tests
            if test.startswith(f"{path}::")
        } - failed
        for name in sorted(there - set(tests) - passed):
            if targets.class_of(f"{path}::{name}") == "A1":
                yield f"{path}::{name} (A1) has no test of ours in adapted.toml"
