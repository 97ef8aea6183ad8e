"""What holds the behaviour that tests of Celery's are about which cannot run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.conformance.adapted import LEDGER, functions, load_adapted, unmapped
from compat.conformance.suite import Result, Run
from compat.conformance.targets import Targets
from compat.conformance.verdict import load_differences

ROOT = Path(__file__).parents[2]
FILE = "t/unit/app/test_x.py"
TARGETS = Targets({FILE: {"items": {"A1": 3}, "class": "A1", "except": {}}})


@pytest.mark.parametrize("path", load_adapted())
def test_each_test_of_ours_exists(path: str) -> None:
    subjects = {each.about for each in load_differences()}
    known: dict[str, set[str]] = {}
    for test, ours in load_adapted()[path].items():
        assert ours, test
        for each in ours:
            if each.startswith(LEDGER):
                assert each.removeprefix(LEDGER) in subjects, each
                continue
            file, _, name = each.partition("::")
            if file not in known:
                known[file] = functions(ROOT / file)
            assert name in known[file], each


@pytest.mark.parametrize("path", load_adapted())
def test_each_test_of_celerys_is_one_that_cannot_run_as_it_is(path: str) -> None:
    targets = Targets.load()
    for test in load_adapted()[path]:
        assert "[" not in test, "without parameters"
        assert targets.class_of(f"{path}::{test}") in ("A1", "A2", "P1", "P2"), test


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite with three tests."""
    file = tmp_path / FILE
    file.parent.mkdir(parents=True)
    file.write_text(
        "def test_one(): pass\ndef help(): pass\n"
        "class test_Two:\n    def test_a(self): pass\n    def test_b(self): pass\n"
    )
    return tmp_path


def a_run(**outcomes: str) -> Run:
    names = {"one": "test_one", "a": "test_Two::test_a[1]", "b": "test_Two::test_b"}
    tests = {
        f"{FILE}::{names[name]}": Result(told, 0.1, "") for name, told in outcomes.items()
    }
    return Run(files=[FILE], tests=tests)


def test_one_that_is_forgotten_is_complained_of(suite: Path) -> None:
    mapped = {FILE: {"test_one": ["x"]}}
    run = a_run(a="passed", b="failed")

    assert list(unmapped(mapped, suite, run, TARGETS)) == [
        f"{FILE}::test_Two::test_b (A1) has no test of ours in adapted.toml"
    ]


def test_so_are_all_of_a_file_that_does_not_load(suite: Path) -> None:
    told = list(unmapped({FILE: {}}, suite, a_run(), TARGETS))

    assert [each.partition(" ")[0].rpartition("::")[2] for each in told] == [
        "test_a", "test_b", "test_one",
    ]  # fmt: skip


def test_one_that_celery_does_not_have_is_complained_of(suite: Path) -> None:
    run = a_run(one="passed", a="passed", b="passed")

    assert list(unmapped({FILE: {"test_three": ["x"]}}, suite, run, TARGETS)) == [
        f"{FILE}::test_three stands in adapted.toml and is no test of Celery's"
    ]


def test_files_that_were_not_run_say_nothing(suite: Path) -> None:
    assert list(unmapped({"t/unit/other.py": {}}, suite, a_run(), TARGETS)) == []
