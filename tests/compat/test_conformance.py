"""The conformance runner: how it counts, and when a bar holds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from compat.conformance import __main__ as command
from compat.conformance.__main__ import arguments, parts
from compat.conformance.integration import lifted
from compat.conformance.packages import DJANGO_CELERY_BEAT
from compat.conformance.report import complaints, table
from compat.conformance.suite import Result, Run
from compat.conformance.targets import CLASSES, Targets, group_of
from compat.conformance.verdict import Known, bars_of, judge, load_bars, load_ledger

FILE = "t/unit/app/test_x.py"
TARGETS = Targets(
    {
        FILE: {
            "items": {"P0": 3, "P1": 1, "N": 1},
            "class": "P0",
            "except": {"P1": ["test_b::two"], "N": ["test_c"]},
        }
    }
)
BARS = {FILE: ["P0"]}


def a_run(**outcomes):
    names = {
        "one": "test_a::one[1]",
        "two": "test_b::two",
        "three": "test_b::three",
        "four": "four",
    }
    tests = {
        f"{FILE}::{names[name]}": Result(outcome, 0.1, "why" if outcome == "failed" else "")
        for name, outcome in outcomes.items()
    }
    return Run(files=[FILE], tests=tests, seconds={"t/unit/app": 1.0})


class TestTargets:
    @pytest.mark.parametrize(
        ("test", "expected"),
        [
            (f"{FILE}::test_a::one[1-x::y]", "P0"),
            (f"{FILE}::test_b::two", "P1"),
            (f"{FILE}::test_b::two[5]", "P1"),
            (f"{FILE}::test_b::three", "P0"),
            (f"{FILE}::test_c::any", "N"),
            ("t/unit/elsewhere.py::test", None),
        ],
    )
    def test_the_longest_name_decides(self, test, expected):
        assert TARGETS.class_of(test) == expected

    def test_files_are_chosen_by_place_and_class(self):
        assert TARGETS.below(["t/unit/app"], ["P0"]) == [FILE]
        assert TARGETS.below(["t/unit/app/"], ["P2"]) == []
        assert TARGETS.below(["t/unit/ap"], ["P0"]) == []
        assert TARGETS.count([FILE], ["P0", "P1"]) == 4

    @pytest.mark.parametrize(
        ("path", "group"),
        [
            ("t/unit/app/test_x.py", "t/unit/app"),
            ("t/unit/contrib/django/test_task.py", "t/unit/contrib"),
            ("t/unit/test_canvas.py", "t/unit"),
            ("t/integration/test_canvas.py", "t/integration/test_canvas.py"),
        ],
    )
    def test_files_are_counted_by_directory_those_with_a_worker_by_themselves(
        self, path, group
    ):
        assert group_of(path) == group

    def test_those_of_celery_are_all_there(self):
        targets = Targets.load()

        assert targets.count(targets.files, CLASSES) == 6104
        assert targets.count(targets.files, ["P0"]) == 2216
        assert targets.count(["t/unit/app/test_schedules.py"], ["P0"]) == 219
        assert {name for each in targets.files.values() for name in each["items"]} == set(
            CLASSES
        )

    def test_those_of_django_celery_beat_are_all_there(self):
        targets = Targets.load(DJANGO_CELERY_BEAT.targets)

        assert targets.count(targets.files, ["P0"]) == 127
        assert targets.count(targets.files, CLASSES) == 128


class TestBars:
    def judge(self, run, **ledger):
        known = {
            f"{FILE}::{name}": Known(f"{FILE}::{name}", **rest)
            for name, rest in ledger.items()
        }
        return judge(run, TARGETS, BARS, known)

    def test_hold_if_all_pass(self):
        assert self.judge(a_run(one="passed", three="passed", four="passed")) == []

    def test_do_not_ask_for_other_classes(self):
        run = a_run(one="passed", two="failed", three="passed", four="passed")

        assert self.judge(run) == []

    def test_do_not_hold_after_a_failure(self):
        found = self.judge(a_run(one="passed", three="failed", four="passed"))

        assert found == [f"{FILE}::test_b::three failed: why"]

    def test_hold_after_a_failure_that_is_known(self):
        run = a_run(one="passed", three="passed", four="failed")

        assert self.judge(run, four={"reason": "…"}) == []

    def test_do_not_hold_while_the_ledger_lists_what_passes(self):
        run = a_run(one="passed", three="passed", four="passed")

        assert "passes: take it out" in self.judge(run, four={"reason": "…"})[0]

    def test_let_a_test_skip_itself_if_that_is_known(self):
        known = {"four": {"reason": "only on 3.14", "outcome": "skipped"}}

        for outcome in ("passed", "skipped"):
            assert (
                self.judge(a_run(one="passed", three="passed", four=outcome), **known) == []
            )
        assert self.judge(a_run(one="passed", three="passed", four="skipped")) != []

    def test_do_not_hold_if_tests_are_absent(self):
        run = a_run(one="passed")
        run.unloadable[FILE] = "ImportError: no"

        assert self.judge(run) == [f"{FILE}: 2 tests did not run (ImportError: no)"]

    def test_tell_the_same_reason_once(self):
        found = self.judge(a_run(one="failed", three="failed", four="failed"))

        assert found == [f"{FILE}::test_a::one[1] (and 2 others) failed: why"]

    def test_count_for_the_classes_that_were_run(self):
        run = a_run(one="passed")
        bars = {FILE: ["P0", "P1"], "t/unit/elsewhere.py": ["P0"]}

        assert bars_of(run, bars, ["P1", "P2"]) == {FILE: ["P1"]}
        assert bars_of(run, bars, ["A1"]) == {}

    def test_may_fail_for_one_reason_in_many_tests(self, tmp_path):
        (tmp_path / "ledger.toml").write_text(
            '[[known]]\ntests = ["a", "b"]\nreason = "no broker"\nuser = "none"\n'
            '[[known]]\ntest = "c"\nreason = "skips"\noutcome = "skipped"\n'
        )
        known = load_ledger(tmp_path / "ledger.toml")

        assert known["a"] == Known("a", "no broker", user="none")
        assert known["b"].reason == "no broker"
        assert known["c"].outcome == "skipped"

    def test_are_of_files_and_tests_that_exist(self):
        targets = Targets.load()

        for path, classes in load_bars().items():
            assert targets.count([path], classes), path
        for known in load_ledger().values():
            assert targets.class_of(known.test), known.test
            assert known.reason
            assert known.outcome in ("failed", "skipped")
            assert known.user or known.outcome == "skipped", "what does a user see?"

    def test_are_where_the_ledger_has_something_to_say(self):
        targets, bars = Targets.load(), load_bars()

        for test in load_ledger():
            assert targets.class_of(test) in bars[test.partition("::")[0]], test

    def test_are_of_classes_that_a_run_without_options_has(self):
        usual = arguments().parse_args([]).classes

        assert {name for classes in load_bars().values() for name in classes} <= set(usual)

    def test_of_the_promised_parts_are_all_there(self):
        targets, bars = Targets.load(), load_bars()
        parts = ("tasks", "app", "utils", "backends", "contrib", "fixups")
        places = [*(f"t/unit/{part}" for part in parts), "t/unit/test_canvas.py"]
        promised = set(targets.below(places, ["P0"]))

        assert {path for path in promised if "P0" not in bars.get(path, ())} == set()


class TestTheCommand:
    @pytest.fixture
    def outcome(self, monkeypatch, tmp_path):
        """Tell what the tests shall come out like, and with which ledger."""
        workshop = SimpleNamespace(path=tmp_path, logs=tmp_path)
        monkeypatch.setattr(command.Targets, "load", lambda name: TARGETS)
        monkeypatch.setattr(command.Workshop, "open", lambda package, fresh: workshop)
        monkeypatch.setattr(command, "load_bars", lambda: BARS)

        def told(run, *known):
            suite = SimpleNamespace(run=lambda files, progress: run)
            monkeypatch.setattr(command, "Suite", lambda *arguments: suite)
            ledger = {f"{FILE}::{name}": Known(f"{FILE}::{name}", "…") for name in known}
            monkeypatch.setattr(command, "load_ledger", lambda: ledger)
            return command.main([])

        return told

    def test_ends_well_if_the_ledger_lists_what_does_not_pass(self, outcome, capsys):
        assert outcome(a_run(one="passed", three="passed", four="failed"), "four") == 0
        assert "The bars hold" in capsys.readouterr().out

    def test_fails_after_a_failure_that_the_ledger_does_not_list(self, outcome, capsys):
        assert outcome(a_run(one="passed", three="passed", four="failed")) == 1
        assert f"{FILE}::four failed: why" in capsys.readouterr().out

    def test_runs_the_tests_of_another_package_instead(self, outcome, monkeypatch):
        asked = []
        workshop = command.Workshop.open("", fresh=False)
        outcome(a_run(one="passed", three="passed", four="passed"))
        monkeypatch.setattr(
            command.Workshop,
            "open",
            lambda package, fresh: asked.append(package) or workshop,
        )

        assert command.main(["--django-celery-beat"]) == 0
        assert [package.name for package in asked] == ["django-celery-beat"]

    def test_fails_after_a_pass_that_nobody_expected(self, outcome, capsys):
        assert outcome(a_run(one="passed", three="passed", four="passed"), "four") == 1
        assert "take it out of ledger.toml" in capsys.readouterr().out


class TestTheReport:
    def test_has_a_row_per_group_and_a_sum(self, capsys):
        run = a_run(one="passed", two="passed", three="skipped")
        run.missing.add("celery.nowhere")
        table(TARGETS, run, ["P0", "P1", "A1"])

        rows = [line.split() for line in capsys.readouterr().out.splitlines()]

        assert rows[0] == ["group", "P0", "P1", "A1", "skipped", "seconds"]
        assert rows[1] == ["t/unit/app", "1/3", "1/1", "-", "1", "1"]
        assert rows[2] == ["all", "1/3", "1/1", "-", "1", "1"]
        assert rows[-1][-1] == "celery.nowhere"

    def test_says_which_bars_hold(self, capsys):
        complaints([], [FILE])
        complaints(["something is wrong"], [FILE])

        assert FILE in capsys.readouterr().out

    def test_counts_the_bars_where_many_hold(self, capsys):
        complaints([], [FILE] * 52)

        assert capsys.readouterr().out == "The bars hold: 52 files.\n"


def test_classes_can_be_written_small():
    assert arguments().parse_args(["--classes", "p0,a1"]).classes == ["P0", "A1"]


class TestIntegration:
    def test_the_gates_of_redis_are_lifted_and_nothing_else(self):
        gated = (
            "        if not manager.app.conf.result_backend.startswith('redis'):\n"
            "            raise pytest.skip('Requires redis result backend.')\n"
            '        if not app.conf.result_backend.startswith("redis"):\n'
            "        if app.conf.result_backend.startswith('rpc'):\n"
        )

        assert lifted(gated) == (
            "        if False:\n"
            "            raise pytest.skip('Requires redis result backend.')\n"
            "        if False:\n"
            "        if app.conf.result_backend.startswith('rpc'):\n"
        )
        assert lifted(lifted(gated)) == lifted(gated)

    def test_places_may_be_single_tests(self):
        where = [
            "t/unit",
            "t/integration/test_x.py::one",
            "t/integration/test_x.py::two[1]",
        ]

        assert parts(where) == {"t/integration/test_x.py": where[1:]}
