"""The newsletter's modules, importable as they are when its worker runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fix_client import state_as_it_was

NEWSLETTER = Path(__file__).parents[2] / "docs" / "examples" / "newsletter"


@pytest.fixture(scope="session")
def newsletter() -> SimpleNamespace:
    """``tasks``, ``postoffice`` and ``demo``, and the folder that they are in.

    Names as common as these must not stay in ``sys.modules``, where another
    test's ``import tasks`` would find them.
    """
    names = ("tasks", "postoffice", "demo")
    hidden: dict[str, ModuleType | None] = {
        name: sys.modules.pop(name, None) for name in names
    }
    sys.path.insert(0, str(NEWSLETTER))
    try:
        with state_as_it_was():
            modules = {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(NEWSLETTER))
        for name, module in hidden.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
    return SimpleNamespace(folder=NEWSLETTER, **modules)
