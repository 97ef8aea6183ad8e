"""The alias: code that says ``import celery`` gets pgtasks, or a clear word why not.

Each test is a process of its own: an import hook is for the life of one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pgtasks import __version__


@pytest.fixture
def run(tmp_path):
    """Runs a program that has installed the alias, and answers what it printed."""

    def run(program, *, install=True):
        first = "import pgtasks_celery; pgtasks_celery.install()\n" if install else ""
        (tmp_path / "program.py").write_text(first + textwrap.dedent(program))
        done = subprocess.run(
            [sys.executable, "-W", "error", "program.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture
def real_celery(tmp_path):
    """A package named celery that is installed, and is not ours."""
    package = tmp_path / "celery"
    package.mkdir()
    (package / "__init__.py").write_text("class Celery: pass")
    (package / "only_there.py").write_text("")
    metadata = tmp_path / "celery-5.4.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: celery\nVersion: 5.4.0\n"
    )
    return package


class TestOneModuleUnderTwoNames:
    def test_the_package_and_its_modules_are_the_same_objects(self, run):
        printed = run("""
            import celery, celery.schedules, celery.utils.time
            import pgtasks, pgtasks.schedules, pgtasks.utils.time
            print(celery is pgtasks,
                  celery.schedules is pgtasks.schedules,
                  celery.utils.time is pgtasks.utils.time)
        """)

        assert printed == "True True True"

    def test_the_package_can_be_run_as_a_program(self, run):
        printed = run("""
            import runpy, sys
            sys.argv = ["celery", "--version"]
            runpy.run_module("celery", run_name="__main__", alter_sys=True)
        """)

        assert printed == __version__

    def test_classes_are_identical_whichever_name_came_first(self, run):
        printed = run("""
            from pgtasks.exceptions import Retry
            from celery.exceptions import Retry as Theirs
            from celery.schedules import crontab
            from pgtasks.schedules import crontab as ours
            print(Retry is Theirs, crontab is ours)
        """)

        assert printed == "True True"

    def test_a_patch_by_either_name_is_seen_by_both(self, run):
        printed = run("""
            from unittest.mock import patch
            import pgtasks.utils.time as ours
            with patch("celery.utils.time.humanize_seconds", lambda seconds: "soon"):
                print(ours.humanize_seconds(5))
            print(ours.humanize_seconds(5))
        """)

        assert printed.splitlines() == ["soon", "5.00 seconds"]

    def test_a_pickle_that_names_celery_loads(self, run):
        printed = run(r"""
            import pickle
            error = pickle.loads(b"ccelery.exceptions\nRetry\n(tR.")
            from pgtasks.exceptions import Retry
            print(type(error) is Retry)
        """)

        assert printed == "True"

    def test_symbols_by_name_resolve(self, run):
        printed = run("""
            from celery.utils.imports import symbol_by_name
            from pgtasks.schedules import crontab
            print(symbol_by_name("celery.schedules:crontab") is crontab)
        """)

        assert printed == "True"

    def test_a_module_keeps_its_own_identity(self, run):
        # Otherwise relative imports inside it would warn, and -W error is on.
        printed = run("""
            import celery.utils.text as text
            import importlib
            print(text.__spec__.name, text.__name__, importlib.reload(text) is text)
        """)

        assert printed == "pgtasks.utils.text pgtasks.utils.text True"

    def test_reimporting_gives_the_same_module(self, run):
        printed = run("""
            import sys
            import celery.utils.text as before
            del sys.modules["celery.utils.text"]
            import celery.utils.text as after
            print(before is after)
        """)

        assert printed == "True"


class TestBesideTheRealOne:
    def test_an_installed_celery_is_never_imported(self, run, real_celery):
        assert run("import celery; print(celery.__name__)") == "pgtasks"

    def test_nor_any_of_the_modules_that_programs_use(self, run, real_celery):
        surface = Path(__file__).parents[2] / "compat" / "surface.json"
        for name in json.loads(surface.read_text())["modules"]:
            path = real_celery.joinpath(*name.split(".")[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".py").write_text("raise RuntimeError('the real one')")
        printed = run(f"""
            import importlib, json
            surface = json.load(open({str(surface)!r}))
            for name in surface["modules"]:
                try:
                    module = importlib.import_module(name)
                except ModuleNotFoundError as error:
                    if error.name != "django":
                        print(name, error)
                    continue
                ours = "pgtasks" + name.removeprefix("celery")
                if module is not importlib.import_module(ours):
                    print(name, module)
        """)

        assert printed == ""

    def test_it_is_found_by_nobody_who_looks_for_it(self, run, real_celery):
        printed = run("""
            import importlib.util, pkgutil
            print(importlib.util.find_spec("celery").loader.name,
                  importlib.util.find_spec("celery.app").loader.name)
            import celery
            print("only_there" in {each.name for each in pkgutil.iter_modules(celery.__path__)})
        """)

        assert printed.splitlines() == ["pgtasks pgtasks.app", "False"]

    def test_its_packages_in_other_places_are_not_touched(self, run, tmp_path):
        (tmp_path / "celery_utils.py").write_text("here = True")
        (tmp_path / "proj").mkdir()
        (tmp_path / "proj" / "__init__.py").write_text("")
        (tmp_path / "proj" / "celery.py").write_text("from celery import Celery")
        printed = run("""
            import celery_utils, proj.celery, pgtasks
            print(celery_utils.here, proj.celery.Celery is pgtasks.Celery, proj.celery.__name__)
        """)

        assert printed == "True True proj.celery"

    def test_nor_its_modules_that_have_no_counterpart(self, run, real_celery):
        printed = run("""
            try:
                import celery.only_there
            except ModuleNotFoundError as error:
                print(error.name)
        """)

        assert printed == "celery.only_there"

    def test_coming_too_late_fails_and_names_who_was_first(self, run, real_celery):
        printed = run(
            """
            import sys, types
            import celery
            guilty = sys.modules["proj.tasks"] = types.ModuleType("proj.tasks")
            guilty.Celery = celery.Celery
            import pgtasks_celery
            try:
                pgtasks_celery.install()
            except RuntimeError as error:
                print(error)
            """,
            install=False,
        )

        assert "comes too late" in printed
        assert "proj.tasks" in printed
        assert str(real_celery) in printed

    def test_the_metadata_are_those_of_the_celery_we_speak(self, run, real_celery):
        printed = run("""
            from importlib.metadata import distribution, version
            print(version("celery"), distribution("celery").metadata["Name"], version("pip") > "")
        """)

        assert printed == "5.7.0 celery True"


class TestClassesOfBilliard:
    @pytest.fixture(autouse=True)
    def installed_billiard(self, tmp_path):
        package = tmp_path / "billiard"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "einfo.py").write_text("class ExceptionInfo: pass")
        (package / "exceptions.py").write_text(
            "class SoftTimeLimitExceeded(Exception): pass\nclass CoroStop(Exception): pass"
        )

    CAUGHT = """
        from billiard.einfo import ExceptionInfo
        from billiard.exceptions import CoroStop, SoftTimeLimitExceeded

        import pgtasks.exceptions, pgtasks.utils.einfo

        print(SoftTimeLimitExceeded is pgtasks.exceptions.SoftTimeLimitExceeded,
              ExceptionInfo is pgtasks.utils.einfo.ExceptionInfo, CoroStop.__module__)
    """

    def test_that_tasks_catch_are_pgtasks_own(self, run):
        assert run(self.CAUGHT) == "True True billiard.exceptions"

    def test_also_if_billiard_was_imported_before(self, run):
        early = "import billiard.exceptions, billiard.einfo, pgtasks_celery"
        program = f"{early}; pgtasks_celery.install()\n{textwrap.dedent(self.CAUGHT)}"

        assert run(program, install=False) == "True True billiard.exceptions"

    def test_are_its_own_again_without_the_alias(self, run):
        printed = run("""
            import billiard.exceptions
            pgtasks_celery.uninstall()
            print(billiard.exceptions.SoftTimeLimitExceeded.__module__)
        """)
        assert printed == "billiard.exceptions"

    def test_keep_the_loader_that_tells_their_source(self, run):
        printed = run("""
            import inspect, billiard.exceptions
            print("CoroStop" in inspect.getsource(billiard.exceptions))
        """)
        assert printed == "True"


class TestWhatItSays:
    def test_the_version_is_celerys_for_those_who_ask(self, run):
        printed = run("""
            import celery
            from celery import VERSION
            print(VERSION >= (4, 4, 7), VERSION[:3], celery.__version__, VERSION.major)
        """)

        assert printed == "True (5, 7, 0) 5.7.0 5"

    @pytest.mark.parametrize(
        ("module", "named", "advice"),
        [
            (
                "celery.backends.redis",
                "celery.backends.redis",
                "results are kept in PostgreSQL",
            ),
            ("celery.concurrency.eventlet", "celery.concurrency.eventlet", "gevent"),
            ("celery.worker.pidbox", "celery.worker.pidbox", "jobs are rows"),
            (
                "celery.worker.consumer.delayed_delivery",
                "celery.worker.consumer.delayed_delivery",
                "there is no broker",
            ),
            ("celery.no_such_module", "celery.no_such_module", "open an issue"),
        ],
    )
    def test_a_module_without_counterpart_is_an_import_error_with_a_pointer(
        self, run, module, named, advice
    ):
        printed = run(f"""
            import pgtasks_celery
            try:
                import {module}
            except ImportError as error:
                print(error)
            print(pgtasks_celery.install().missing)
        """)

        assert printed.startswith(f"pgtasks does not provide {named}: ")
        assert advice in printed
        assert printed.endswith(str({named}))

    def test_a_name_without_counterpart_is_an_import_error(self, run):
        printed = run("""
            try:
                from celery.schedules import no_such_name
            except ImportError as error:
                print(error)
        """)

        assert "no_such_name" in printed

    def test_a_module_of_ours_that_fails_to_import_says_why(self, run):
        printed = run("""
            import pathlib, sys
            import pgtasks
            pathlib.Path("extra").mkdir()
            pathlib.Path("extra/broken.py").write_text("import no_such_thing")
            pgtasks.__path__.append("extra")
            try:
                import celery.broken
            except ImportError as error:
                print(error)
        """)

        assert printed == "No module named 'no_such_thing'"


class TestInstalling:
    def test_twice_is_harmless(self, run):
        printed = run("""
            import sys, pgtasks_celery
            first = pgtasks_celery.install()
            print(first is pgtasks_celery.install(), sys.meta_path.count(first))
        """)

        assert printed == "True 1"

    def test_can_be_undone(self, run):
        printed = run("""
            import sys, celery.schedules, pgtasks, pgtasks_celery
            pgtasks_celery.uninstall()
            print([name for name in sys.modules if name.partition(".")[0] == "celery"])
            print(pgtasks.__version__ != "5.7.0", "pgtasks.schedules" in sys.modules)
            try:
                import celery
            except ModuleNotFoundError as error:
                print(error)
        """)

        assert printed.splitlines() == ["[]", "True True", "No module named 'celery'"]

    def test_imports_nothing_but_the_package_itself(self, run):
        printed = run("""
            import sys
            ours = sorted(name for name in sys.modules if name.startswith("pgtasks"))
            print(ours)
        """)

        alias = ["", ".alias", ".billiard", ".modules"]
        assert printed == str(["pgtasks", *(f"pgtasks_celery{name}" for name in alias)])
