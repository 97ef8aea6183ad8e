"""The code of the documentation runs, page by page, in the order in which one reads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
# What needs a program that is not among our tools, or would not end.
SKIPPED_AT_MOST = 1


class Block(NamedTuple):
    """A fenced block: the words behind its fence, its first line's number, its text."""

    kind: str
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fenced = re.finditer(r"^```([\w ]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(match[1], text.count("\n", 0, match.start(2)) + 1, match[2])
        for match in fenced
    ]


def having(kind: str) -> list[Path]:
    return [page for page in PAGES if any(each.kind == kind for each in blocks(page))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", having("python"), ids=name)
def test_the_python_of_a_page_runs(page: Path, database_url: str, tmp_path: Path) -> None:
    # All of it is one program, and each line stands in it where it stands on the page.
    lines = [""] * (page.read_text(encoding="utf-8").count("\n") + 1)
    for block in blocks(page):
        if block.kind == "python":
            for number, line in enumerate(block.text.splitlines(), block.line - 1):
                lines[number] = line
    program = tmp_path / f"{page.stem.replace('-', '_')}.py"
    program.write_text("\n".join(lines), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        env={**os.environ, "PGTASKS_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, f"{page}:\n{done.stderr}"


@pytest.mark.parametrize("page", having("sql"), ids=name)
def test_the_sql_of_a_page_runs(page: Path, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for block in blocks(page):
            if block.kind == "sql":
                connection.execute(block.text.encode())
        connection.rollback()


@pytest.mark.parametrize("page", having("json"), ids=name)
def test_the_json_of_a_page_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.kind == "json":
            json.loads(block.text)


def test_few_blocks_are_left_out() -> None:
    kinds = [block.kind for page in PAGES for block in blocks(page)]

    assert kinds.count("python notest") <= SKIPPED_AT_MOST
    assert set(kinds) <= {"python", "python notest", "sql", "json", "diff", "console", ""}
