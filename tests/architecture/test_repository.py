"""What lies in the repository is of use to whoever clones it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    """The files of the repository, also of what is not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    # Also for who runs the tests without owning the clone.
    command[1:1] = ["-c", f"safe.directory={ROOT}"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone, or there is no git")
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def lines_with(pattern: str) -> list[str]:
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if re.search(pattern, line)
        ]
    return found


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    places = r"work|root|home/(?!user\b|you\b)\w+|Users/\w+"

    assert lines_with(rf"(?<![\w.~$}}*])/({places})/\w") == []


def test_no_file_speaks_of_how_it_came_about() -> None:
    words = "sub-?agents?|language model|chat ?bot|the brief|helper session|as asked by"

    assert lines_with(rf"(?i)\b({words})\b") == []


def test_nothing_is_left_for_later_in_a_comment() -> None:
    assert lines_with(r"#\s*(TODO|FIXME|XXX|HACK)\b|--\s*(TODO|FIXME)\b") == []


def test_no_file_is_large() -> None:
    large = [path.name for path in tracked() if path.stat().st_size > 1_000_000]

    assert large == []


def test_what_is_made_is_not_tracked() -> None:
    made = re.compile(r"\.pyc$|\.egg-info/|^dist/|\.venv|_cache/|\.pgtasks/")

    names = [path.relative_to(ROOT).as_posix() for path in tracked()]

    assert [name for name in names if made.search(name)] == []


def test_the_continuous_check_runs_what_the_readme_names() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))

    assert set(re.findall(r"^make (\w+)", script, re.MULTILINE)) <= targets
    assert {"check", "test"} <= set(re.findall(r"^make (\w+)", script, re.MULTILINE))
    assert "make test" in readme


def test_each_target_says_what_it_is_for() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    explained = set(re.findall(r"^(\w+):.*## \S", makefile, re.MULTILINE))

    assert phony - {"clean"} <= explained
    assert explained <= phony
