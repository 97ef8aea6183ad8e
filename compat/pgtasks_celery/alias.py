"""The import hook: ``celery.x`` is ``pgtasks.x``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from pgtasks_celery import billiard
from pgtasks_celery.modules import PACKAGES, advice_for, counterpart

__all__ = ["VERSION", "AliasFinder", "install", "uninstall"]


class Version(NamedTuple):
    """Celery's version tuple."""

    major: int
    minor: int
    micro: int
    releaselevel: str = ""
    serial: str = ""


#: The Celery whose API pgtasks speaks, for code that asks before it uses it.
VERSION = Version(5, 7, 0)


def install() -> AliasFinder:
    """Serve every import of ``celery`` from pgtasks, from now on.

    Installing twice is harmless.

    Returns:
        The hook, which remembers the names it could not serve.

    Raises:
        RuntimeError: The real Celery is imported already. Classes of both would
            meet, and ``isinstance`` would be false where it must be true.
    """
    for finder in sys.meta_path:
        if isinstance(finder, AliasFinder):
            return finder
    _refuse_to_come_too_late()
    finder = AliasFinder()
    # Before all others: a Celery that is installed must not be found.
    sys.meta_path.insert(0, finder)
    finder.disguise(importlib.import_module(counterpart("celery")))
    for name in billiard.SHARED:
        if name in sys.modules:
            billiard.share(sys.modules[name])
    return finder


def uninstall() -> None:
    """Take the hook away and forget the aliases; for tests."""
    for finder in [each for each in sys.meta_path if isinstance(each, AliasFinder)]:
        sys.meta_path.remove(finder)
        finder.undisguise()
    billiard.give_back()
    for name, module in list(sys.modules.items()):
        if _is_celery(name) and not _is_celery(getattr(module, "__name__", "")):
            del sys.modules[name]


class AliasFinder(MetaPathFinder):
    """Finds a module of ours for every name that begins with ``celery``.

    Attributes:
        missing: Names that were asked for and have no counterpart.
    """

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self._disguised: tuple[ModuleType, dict[str, Any]] | None = None

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """A spec whose loader hands out our module.

        Raises:
            ModuleNotFoundError: There is no counterpart. Falling through to a
                Celery that is installed would be worse than failing.
        """
        if fullname in billiard.SHARED:
            return billiard.find(fullname, path)
        if not _is_celery(fullname):
            return None
        real = _find(counterpart(fullname))
        if real is None:
            self.missing.add(fullname)
            raise ModuleNotFoundError(
                f"pgtasks does not provide {fullname}: {advice_for(fullname)}",
                name=fullname,
            )
        is_package = real.submodule_search_locations is not None
        loader = AliasLoader(real.name, leads_on=fullname in PACKAGES)
        return ModuleSpec(fullname, loader, origin=real.origin, is_package=is_package)

    def find_distributions(
        self,
        context: Any = DistributionFinder.Context(),  # noqa: B008
    ) -> Iterable[Distribution]:
        """Celery's metadata, for those who look there whether it is installed."""
        return [CeleryMetadata()] if context.name == "celery" else []

    def disguise(self, package: ModuleType) -> None:
        """Let the package tell Celery's version, which other packages ask for.

        ``VERSION_BANNER`` remains pgtasks' own.
        """
        text = ".".join(map(str, VERSION[:3]))
        told = {"VERSION": VERSION, "version_info": VERSION, "__version__": text}
        self._disguised = package, {name: getattr(package, name, None) for name in told}
        vars(package).update(told)

    def undisguise(self) -> None:
        """Let the package tell its own version again."""
        if self._disguised is not None:
            package, own = self._disguised
            vars(package).update(own)


class AliasLoader(Loader):
    """Loads a module by importing another and returning that.

    Args:
        name: The other.
        leads_on: Names below it are asked for, though it is no package.
    """

    def __init__(self, name: str, *, leads_on: bool = False) -> None:
        self.name = name
        self.leads_on = leads_on

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module that the name stands for."""
        module = importlib.import_module(self.name)
        self._identity = module.__spec__, module.__loader__
        if self.leads_on and not hasattr(module, "__path__"):
            module.__path__ = []
        return module

    def get_code(self, fullname: str) -> CodeType | None:
        """The code of the module, which ``python -m celery`` runs."""
        spec = importlib.util.find_spec(self.name)
        get_code = getattr(None if spec is None else spec.loader, "get_code", None)
        code: CodeType | None = None if get_code is None else get_code(self.name)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back its own identity, which the import has overwritten."""
        # Otherwise its relative imports would warn, and reload() go astray.
        module.__spec__, module.__loader__ = self._identity


class CeleryMetadata(Distribution):
    """What ``importlib.metadata`` is told of a distribution named ``celery``."""

    def read_text(self, filename: str) -> str | None:
        """The one file there is."""
        if filename not in ("METADATA", "PKG-INFO"):
            return None
        version = ".".join(map(str, VERSION[:3]))
        return f"Metadata-Version: 2.1\nName: celery\nVersion: {version}\n"

    def locate_file(self, path: Any) -> Any:
        """Nowhere: no file belongs to it."""
        from pathlib import Path

        return Path(__file__).parent / path


def _is_celery(name: str) -> bool:
    return name == "celery" or name.startswith("celery.")


def _find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # One of its parents is missing, or is no package. That something else
        # cannot be imported, when a parent is, must not be hushed up.
        if error.name is None or name == error.name or name.startswith(f"{error.name}."):
            return None
        raise


def _refuse_to_come_too_late() -> None:
    real = sys.modules.get("celery")
    if real is None or not _is_celery(real.__name__):
        return
    users = ", ".join(sorted(_users_of_celery())[:5]) or "nobody that can be told"
    raise RuntimeError(
        f"pgtasks_celery.install() comes too late: the real Celery is imported already, "
        f"from {getattr(real, '__file__', 'somewhere')}. Modules that hold something of "
        f"it: {users}. Make install() the first thing that the program does: the first "
        f"line of the project's __init__.py, or of manage.py."
    )


def _users_of_celery() -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        if _is_celery(name) or not isinstance(module, ModuleType):
            continue
        if name.partition(".")[0] in ("kombu", "billiard", "vine", "amqp"):
            continue
        if any(_comes_from_celery(value) for value in list(vars(module).values())):
            yield name


def _comes_from_celery(value: object) -> bool:
    if isinstance(value, ModuleType):
        return _is_celery(value.__name__)
    # Asked of classes and functions only: other objects may do anything when
    # an attribute is read, and Celery's own proxies do.
    kinds = type, type(_comes_from_celery)
    return type(value) in kinds and _is_celery(str(getattr(value, "__module__", "")))
