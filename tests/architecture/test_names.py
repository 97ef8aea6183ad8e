"""What is public is there, and does what it says."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import pgtasks

PACKAGE = Path(pgtasks.__file__).parent
# The one registers itself with a running pytest, the other's models want a Django project.
APART = ("pgtasks.contrib.pytest", "pgtasks.contrib.django.unmanaged")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(pgtasks.__path__, "pgtasks.")
    if module.name not in APART
]

# Modules that people import from: what stands in them and begins with a letter is public.
FOR_PEOPLE = [
    "pgtasks.app.amqp",
    "pgtasks.app.base",
    "pgtasks.app.registry",
    "pgtasks.canvas",
    "pgtasks.contrib.testing.worker",
    "pgtasks.dev",
    "pgtasks.dev.postgres",
    "pgtasks.exceptions",
    "pgtasks.job",
    "pgtasks.result",
    "pgtasks.schedules",
    "pgtasks.serialization",
    "pgtasks.signals",
    "pgtasks.states",
    "pgtasks.storage.borrowed",
    "pgtasks.storage.database",
    "pgtasks.storage.errors",
    "pgtasks.storage.jobs",
    "pgtasks.storage.notifier",
    "pgtasks.storage.query",
    "pgtasks.storage.results",
    "pgtasks.storage.schema",
    "pgtasks.storage.workers",
    "pgtasks.telemetry",
    "pgtasks.testing",
    "pgtasks.utils.functional",
    "pgtasks.utils.log",
    "pgtasks.utils.nodenames",
    "pgtasks.utils.saferepr",
    "pgtasks.utils.text",
]

# Methods that exist to be overridden, or whose answer is that there is none.
UNIMPLEMENTED = {
    "pgtasks/app/task.py: run": "the body of a task, which its author writes",
    "pgtasks/schedules/base.py: remaining_estimate": "what makes a schedule, likewise",
    "pgtasks/backends/base.py: _is_disabled": "results are switched off, as in Celery",
    "pgtasks/app/builtins.py: add_chain_task": "it makes the next",
    "pgtasks/app/builtins.py: chain": "a name that Celery registers and refuses to run",
    "pgtasks/utils/threads.py: body": "what a thread does, which its author writes",
}


def own_names(module: ModuleType) -> set[str]:
    """The functions and classes that are written in this module."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_what_it_says_it_has(name: str) -> None:
    module = importlib.import_module(name)
    promised = getattr(module, "__all__", [])

    assert [each for each in promised if not hasattr(module, each)] == []
    assert len(promised) == len(set(promised))


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_a_public_module_names_everything_that_is_public(name: str) -> None:
    module = importlib.import_module(name)

    assert own_names(module) - set(module.__all__) == set()


def test_the_top_has_all_its_names() -> None:
    missing = [name for name in pgtasks.__all__ if not hasattr(pgtasks, name)]

    assert missing == []
    assert set(pgtasks.__all__) <= set(dir(pgtasks))


@pytest.mark.parametrize("name", ["Celery", "App", "Task", "shared_task"])
def test_the_names_of_the_top_are_those_of_their_modules(name: str) -> None:
    value = getattr(pgtasks, name)

    assert value.__module__.startswith("pgtasks.")
    assert getattr(pgtasks, name) is value


def test_nothing_is_left_unimplemented_behind_a_public_name() -> None:
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    if isinstance(node, ast.Raise) and _is_not_implemented(node.exc):
                        where = path.relative_to(PACKAGE.parent).as_posix()
                        found.add(f"{where}: {function.name}")

    assert found == UNIMPLEMENTED.keys()


def _is_not_implemented(raised: ast.expr | None) -> bool:
    if isinstance(raised, ast.Call):
        raised = raised.func
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
