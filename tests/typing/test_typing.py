"""mypy and pyright see what we promise them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = ["accepted.py", "refused.py"]


def wrong_lines(file: str) -> set[int]:
    lines = (HERE / file).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def mypy(file: str, cache: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"]
    # Our own configuration names the package; here it is the file that counts.
    command += ["--config-file", "", "--ignore-missing-imports", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, f"--cache-dir={cache}", str(HERE / file)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert not done.stderr, done.stderr
    found = re.findall(rf"{re.escape(file)}:(\d+): error: (.*)", done.stdout)
    return {int(line): message for line, message in found}


def pyright(file: str) -> dict[int, str]:
    program = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("pyright is not installed")
    done = subprocess.run(
        [program, "--outputjson", "--pythonpath", sys.executable, str(HERE / file)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        pytest.skip(f"pyright cannot run here: {done.stdout or done.stderr}")
    return {
        each["range"]["start"]["line"] + 1: each["message"]
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.timeout(300)
def test_mypy_finds_what_is_wrong_and_nothing_else(file: str, cache: Path) -> None:
    found = mypy(file, cache)

    assert set(found) == wrong_lines(file), found


@pytest.mark.parametrize("file", FILES)
@pytest.mark.timeout(300)
def test_pyright_finds_what_is_wrong_and_nothing_else(file: str) -> None:
    found = pyright(file)

    assert set(found) == wrong_lines(file), found
