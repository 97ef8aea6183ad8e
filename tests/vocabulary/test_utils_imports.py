"""Things by their names: symbols, modules, tasks, workers, entry points."""

from __future__ import annotations

import os
import sys
import textwrap
from types import SimpleNamespace

import pytest

from pgtasks.utils import imports, nodenames
from pgtasks.utils.imports import NotAPackage, find_module, gen_task_name, symbol_by_name


class TestSymbols:
    @pytest.mark.parametrize("name", ["os.path:join", "os.path.join"])
    def test_are_found_by_name(self, name):
        assert symbol_by_name(name) is os.path.join

    def test_may_be_modules(self):
        assert symbol_by_name("os") is os

    def test_may_be_given_as_themselves(self):
        assert symbol_by_name(os) is os

    def test_have_short_names(self):
        assert symbol_by_name("join", {"join": "os.path:join"}) is os.path.join

    def test_can_be_relative(self):
        assert symbol_by_name(".path:join", package="os") is os.path.join

    @pytest.mark.parametrize("name", ["no_such_module:thing", "os:no_such_thing"])
    def test_that_do_not_exist_are_an_error_or_the_default(self, name):
        with pytest.raises((ImportError, AttributeError)):
            symbol_by_name(name)
        assert symbol_by_name(name, default="instead") == "instead"

    def test_with_names_that_cannot_be_are_told_by_their_name(self):
        with pytest.raises(ValueError, match=r"'\.:'"):
            symbol_by_name(".:", imp=lambda module, package: __import__(""))

    def test_can_be_made(self):
        assert imports.instantiate("datetime:timedelta", seconds=60).seconds == 60

    def test_have_names(self):
        class Inner:
            pass

        assert imports.qualname(os.path.join) == "posixpath.join"
        assert imports.qualname(Inner()).endswith("test_have_names.<locals>.Inner")


class TestModules:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        known = set(sys.modules)
        yield tmp_path
        # Its own only: a library that is loaded a second time has other classes.
        for name in set(sys.modules) - known:
            path = getattr(sys.modules[name], "__file__", None) or ""
            if path.startswith(str(tmp_path)):
                del sys.modules[name]

    def test_of_the_current_directory_can_be_imported(self, here):
        (here / "local_tasks.py").write_text("answer = 42")

        assert find_module("local_tasks").answer == 42
        assert imports.import_from_cwd("local_tasks").answer == 42
        assert str(here) not in sys.path

    def test_of_the_current_directory_can_be_reloaded(self, here):
        (here / "local_tasks.py").write_text("answer = 42")
        module = find_module("local_tasks")
        (here / "local_tasks.py").write_text("answer = 'another'")

        assert imports.reload_from_cwd(module).answer == "another"

    def test_below_a_plain_module_are_told_to_have_no_package(self, here):
        (here / "plain.py").write_text("")

        with pytest.raises(NotAPackage, match="plain"):
            find_module("plain.tasks")

    def test_that_are_missing_from_a_package_are_just_missing(self, here):
        (here / "package").mkdir()
        (here / "package" / "__init__.py").write_text("")

        with pytest.raises(ModuleNotFoundError, match=r"package\.tasks"):
            find_module("package.tasks")

    def test_that_fail_to_import_say_why(self, here):
        (here / "broken.py").write_text("import no_such_thing")

        with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
            find_module("broken")

    def test_can_be_looked_for_in_a_directory_that_is_gone(self, here):
        here.rmdir()

        with imports.cwd_in_path() as path:
            assert path is None

    def test_know_their_source(self):
        assert imports.module_file(SimpleNamespace(__file__="/a/b.pyc")) == "/a/b.py"
        assert imports.module_file(SimpleNamespace(__file__="/a/b.py")) == "/a/b.py"


class TestNamesOfTasks:
    app = SimpleNamespace(main="proj")

    def test_are_module_and_function(self):
        assert gen_task_name(self.app, "add", "proj.tasks") == "proj.tasks.add"

    @pytest.mark.parametrize("module", ["__main__", None])
    def test_begin_with_the_app_in_the_program_itself(self, module):
        assert gen_task_name(self.app, "add", module) == "proj.add"

    def test_of_a_program_that_was_imported_under_another_name(self, monkeypatch):
        monkeypatch.setattr(imports, "MP_MAIN_FILE", __file__)
        monkeypatch.setitem(sys.modules, "proj_main", sys.modules[__name__])

        assert gen_task_name(self.app, "add", "proj_main") == "proj.add"


class TestNamesOfWorkers:
    def test_have_a_name_and_a_host(self):
        here = nodenames.gethostname()

        assert nodenames.nodename("w1", "box") == "w1@box"
        assert nodenames.nodesplit("w1@box") == ("w1", "box")
        assert nodenames.nodesplit("box") == (None, "box")
        assert nodenames.default_nodename(None) == f"celery@{here}"
        assert nodenames.default_nodename("box", "beat") == "beat@box"
        assert nodenames.default_nodename("w1@box") == "w1@box"
        assert nodenames.anon_nodename() == f"gen{os.getpid()}@{here}"

    @pytest.mark.parametrize(
        ("template", "filled"),
        [
            ("%n@%h", "w1@box.example.com"),
            ("%d", "example.com"),
            ("%p.log", "w1@box.example.com.log"),
            ("%n%I-%i", "w1-0"),
            ("%%n", "%n"),
        ],
    )
    def test_fill_in_the_names_of_files(self, template, filled):
        assert nodenames.node_format(template, "w1@box.example.com") == filled

    def test_fill_in_the_number_of_a_pools_process(self, monkeypatch):
        import multiprocessing

        this = multiprocessing.current_process()
        monkeypatch.setattr(this, "index", 2, raising=False)

        assert nodenames.host_format("w%I-%i.log", "box") == "w-3-3.log"

    def test_are_names_of_queues_too(self):
        queue = nodenames.worker_direct("w1@box")

        assert (queue.name, queue.exchange.name) == ("w1@box.dq2", "C.dq2")
        assert nodenames.worker_direct(queue) is queue


class TestEntryPoints:
    @pytest.fixture
    def installed(self, monkeypatch):
        def install(**points):
            entries = [SimpleNamespace(name=n, value=v) for n, v in points.items()]
            monkeypatch.setattr(imports, "entry_points", lambda group: entries)
            imports.load_extension_class_names.cache_clear()

        yield install
        imports.load_extension_class_names.cache_clear()

    def test_are_found_once_and_loaded(self, installed):
        installed(join="os.path:join")

        assert dict(imports.load_extension_classes("a.group")) == {"join": os.path.join}
        assert imports.load_extension_class_names("a.group") == (("join", "os.path:join"),)

    def test_that_are_broken_warn_and_let_the_others_be(self, installed):
        installed(broken="no_such_module:thing", join="os.path:join")

        with pytest.warns(UserWarning, match=r"'broken' of a.group.*Reinstall"):
            found = dict(imports.load_extension_classes("a.group"))

        assert found == {"join": os.path.join}


def test_the_package_itself_loads_nothing():
    import subprocess

    program = textwrap.dedent(
        """
        import sys
        import pgtasks.utils as utils
        before = [m for m in sys.modules if m.startswith(('pgtasks.utils.', 'kombu'))]
        names = [getattr(utils, name) for name in utils.__all__]
        print(before, len(names), utils.uuid() != utils.gen_unique_id(), dir(utils) != [])
        """
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.strip() == "[] 15 True True", done.stderr
