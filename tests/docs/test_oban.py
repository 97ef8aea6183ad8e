"""The page about Oban names all of its features, and tests that are there."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "oban.md"

#: How many features the Oban guide and the reference of its jobs tell of.
FEATURES = 91


def rows() -> list[list[str]]:
    found = []
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and set(cells[0]) != {"-"} and cells[0] != "#":
            found.append(cells)
    return found


def numbers(cell: str) -> set[int]:
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:–(\d+))?", "" if "." in cell else cell):
        found.update(range(int(first), int(last or first) + 1))
    return found


def named() -> list[str]:
    """What the page names as tests, those that only say ``::name`` with their file."""
    found, file = [], ""
    text = PAGE.read_text("utf-8")
    for path, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::([\w*]+))?`", text):
        file = path or file
        if path or name:
            found.append(f"{file}::{name}" if name else file)
    return sorted(set(found))


def test_every_feature_has_a_row() -> None:
    missing = set(range(1, FEATURES + 1)).difference(*(numbers(row[0]) for row in rows()))

    assert sorted(missing) == []


@pytest.mark.parametrize("test", named())
def test_a_test_that_is_named_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    source = ROOT / path

    assert source.is_file()
    tree = ast.walk(ast.parse(source.read_text("utf-8")))
    tests = [each.name for each in tree if isinstance(each, ast.FunctionDef)]
    assert not name or any(fnmatch(each, name) for each in tests)
