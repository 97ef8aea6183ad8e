"""Looking at applications: what they are called, what they report, where they are found.

Celery has more in this place, which can be imported from here as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pgtasks.app.defaults import _TO_NEW_KEY, _TO_OLD_KEY
from pgtasks.app.detection import detect_settings
from pgtasks.app.masking import filter_hidden_settings, sanitize_url
from pgtasks.app.pickling import AppPickler, _unpickle_app, _unpickle_app_v2
from pgtasks.app.settings import Settings
from pgtasks.utils import imports

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = [
    "AppPickler",
    "Settings",
    "_unpickle_app",
    "_unpickle_app_v2",
    "appstr",
    "bugreport",
    "detect_settings",
    "filter_hidden_settings",
    "find_app",
    "sanitize_url",
]


def appstr(app: Celery) -> str:
    """Tell an application from others."""
    return f"{app.main or '__main__'} at {id(app):#x}"


def _new_key_to_old(key: str) -> str:
    return _TO_OLD_KEY.get(key, key)


def _old_key_to_new(key: str) -> str:
    return _TO_NEW_KEY.get(key, key)


# ── reports ─────────────────────────────────────────────────────────────────────────────

BUGREPORT_INFO = """
software -> pgtasks:{pgtasks} py:{python}
            psycopg:{psycopg} kombu:{kombu}
platform -> system:{system} arch:{arch}
            kernel version:{kernel} imp:{implementation}
loader   -> {loader}
settings -> transport:{transport} results:{results}

{settings}
"""


def bugreport(app: Celery) -> str:
    """Describe an application and what it runs on, for a bug report."""
    import platform

    from pgtasks import __version__

    conf = app.conf
    return BUGREPORT_INFO.format(
        pgtasks=__version__,
        python=platform.python_version(),
        psycopg=_version("psycopg"),
        kombu=_version("kombu"),
        system=platform.system(),
        arch=", ".join(filter(None, platform.architecture())),
        kernel=platform.release(),
        implementation=platform.python_implementation(),
        loader=imports.qualname(type(app.loader)),
        transport=sanitize_url(conf.broker_url) or "default",
        results=sanitize_url(conf.result_backend) or "default",
        settings=conf.humanize(),
    )


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


# ── finding ────────────────────────────────────────────────────────────────────────────


def find_app(
    app: str,
    symbol_by_name: Callable[..., Any] = imports.symbol_by_name,
    imp: Callable[..., Any] = imports.import_from_cwd,
) -> Any:
    """Find the application that ``-A`` names.

    ``proj`` may be a module with an ``app`` or a ``celery``, a package whose module
    ``proj.celery`` has one, or a module with any application in it; ``proj:name`` says
    exactly.

    Args:
        app: The name.
        symbol_by_name: Finds a symbol.
        imp: Imports a module.

    Raises:
        AttributeError: The module holds no application.
    """
    try:
        found = symbol_by_name(app, imp=imp)
    except AttributeError:
        # The last word is a module that its package has not imported.
        found = imp(app)
    if not isinstance(found, ModuleType) or ":" in app:
        return found
    for name in ("app", "celery"):
        candidate = getattr(found, name, None)
        if candidate is not None and not isinstance(candidate, ModuleType):
            return candidate
    if hasattr(found, "__path__"):
        submodule = f"{app}.celery"
        try:
            return find_app(submodule, symbol_by_name=symbol_by_name, imp=imp)
        except ImportError as error:
            # No such module is fine; one that fails to import is what must be told.
            if error.name not in (submodule, None):
                raise
    Celery = sys.modules["pgtasks.app.base"].Celery
    for candidate in vars(found).values():
        if isinstance(candidate, Celery):
            return candidate
    raise AttributeError(
        f"Module {app!r} holds no application: make one there, app = Celery({app!r}), or "
        f"name it as -A module:attribute."
    )
