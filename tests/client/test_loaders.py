from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.exceptions import NotConfigured
from pgtasks.loaders import base, default, get_loader_cls
from pgtasks.loaders.app import AppLoader
from pgtasks.loaders.base import BaseLoader, autodiscover_tasks, find_related_module
from pgtasks.utils.imports import NotAPackage


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A configuration module, named in the environment."""
    module = ModuleType("the_config")
    module.__dict__.update(worker_concurrency=7, override_backends={"mine": "a:B"})
    monkeypatch.setitem(sys.modules, "the_config", module)
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "the_config")
    return module


@pytest.fixture
def tree(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "tree_a/__init__.py": "",
        "tree_a/tasks.py": "",
        "tree_b/__init__.py": "class Config: ...",
        "tree_c/__init__.py": "",
        "tree_c/tasks.py": "import tree_c.missing",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


def test_loaders_are_given_by_alias_name_or_class() -> None:
    assert get_loader_cls("app") is AppLoader
    assert get_loader_cls("default") is default.Loader
    assert get_loader_cls("pgtasks.loaders.app:AppLoader") is AppLoader
    assert get_loader_cls(AppLoader) is AppLoader


def test_the_environment_names_the_configuration(app: Celery, config: ModuleType) -> None:
    assert app.conf.worker_concurrency == 7


def test_without_it_there_is_none(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERY_CONFIG_MODULE", raising=False)

    assert app.loader.conf is None


def test_the_default_loader_reads_celeryconfig(
    app: Celery, config: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERY_CONFIG_MODULE")
    monkeypatch.setitem(sys.modules, "celeryconfig", config)
    loader = default.Loader(app)

    assert loader.conf["worker_concurrency"] == 7
    assert loader.configured


def test_the_default_loader_goes_on_without_a_configuration(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "no_such_module_at_all")
    loader = default.Loader(app)

    assert loader.read_configuration().get("worker_concurrency") is None
    with pytest.raises(ImportError):
        loader.read_configuration(fail_silently=False)

    monkeypatch.setattr(default, "C_WNOCONF", True)
    with pytest.warns(NotConfigured, match="no_such_module_at_all"):
        loader.read_configuration()


def test_a_configuration_named_as_a_file_is_told_with_its_name(
    app: Celery, config: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "the_config.py")

    with pytest.raises(NotAPackage, match="Did you mean 'the_config'"):
        app.conf.worker_concurrency  # noqa: B018


def test_a_configuration_may_name_backends(app: Celery, config: ModuleType) -> None:
    assert app.loader.config_from_object("the_config")

    assert app.loader.override_backends == {"mine": "a:B"}


def test_a_configuration_that_may_be_missing_says_so(app: Celery) -> None:
    assert app.loader.config_from_object("no_such_module_at_all", silent=True) is False
    assert app.loader.config_from_object("json.no_such_thing", silent=True) is False


def test_modules_are_imported_for_their_tasks(app: Celery) -> None:
    app.conf.imports = ("os", "sys")
    app.conf.include = "json"

    assert app.loader.import_default_modules() == [os, sys, sys.modules["json"]]
    assert app.loader.task_modules == {"os", "sys", "json"}


def test_a_worker_imports_once_and_is_told(app: Celery) -> None:
    told = []

    class Loader(BaseLoader):
        def import_default_modules(self) -> list[Any]:
            told.append("import")
            return []

        def on_worker_init(self) -> None:
            told.append("init")

        def on_worker_process_init(self) -> None:
            told.append("process")

        def on_worker_shutdown(self) -> None:
            told.append("shutdown")

    loader = Loader(app)
    loader.init_worker()
    loader.init_worker()
    loader.init_worker_process()
    loader.shutdown_worker()

    assert told == ["import", "init", "process", "shutdown"]


def test_a_loader_knows_the_time(app: Celery) -> None:
    assert app.loader.now().tzinfo is not None
    assert app.loader.now(utc=False).tzinfo is None


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("package", "related", "found"),
    [
        ("tree_a", "tasks", "tree_a.tasks"),
        ("tree_a", None, "tree_a"),
        ("tree_b", "tasks", None),
        ("tree_b.Config", "tasks", None),
        ("tree_a.Config", "tasks", "tree_a.tasks"),
    ],
)
def test_a_module_of_a_package(package: str, related: Any, found: Any) -> None:
    module = find_related_module(package, related)

    assert getattr(module, "__name__", None) == found


@pytest.mark.usefixtures("tree")
def test_what_a_module_itself_lacks_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"tree_c\.missing"):
        find_related_module("tree_c", "tasks")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        find_related_module("no_such_module_at_all", "tasks")


@pytest.mark.usefixtures("tree")
def test_a_module_that_is_being_discovered_does_not_discover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner: list[Any] = []

    def find(package: str, related: str) -> None:
        inner.append(autodiscover_tasks(["tree_a"]))

    monkeypatch.setattr(base, "find_related_module", find)
    autodiscover_tasks(["tree_a"])

    assert inner == [()]
    assert not base._RACE_PROTECTION
