"""The file of a `PersistentScheduler`, which may have been Celery's until now.

A shelf holds pickles, and pickles name classes. Celery's are read as ours, so that the
entries of a file that Celery's beat has left come out as entries of pgtasks, with the
moments of their last runs, whether Celery is installed or not.
"""

from __future__ import annotations

import io
import os
import pickle
import shelve
from typing import Any, Literal

from pgtasks.beat.importing import Run, skim

__all__ = ["Shelf", "open"]


class Shelf(shelve.DbfilenameShelf[Any]):
    """A shelf whose pickles may name Celery's classes.

    Attributes:
        was_celerys: Whether one of those that were read did.
    """

    was_celerys = False
    cache: dict[str, Any]
    dict: Any
    keyencoding: str
    writeback: bool

    def __getitem__(self, key: str) -> Any:
        try:
            return self.cache[key]
        except KeyError:
            reader = _Reader(io.BytesIO(self.raw(key)))
        value = reader.load()
        self.was_celerys = self.was_celerys or reader.met_celery
        if self.writeback:
            self.cache[key] = value
        return value

    def raw(self, key: str) -> bytes:
        """The pickle, as it is in the file."""
        pickled: bytes = self.dict[key.encode(self.keyencoding)]
        return pickled

    def last_runs(self) -> dict[str, Run]:
        """The last runs of entries that cannot be read as a whole."""
        return skim(self.raw("entries"))


class _Reader(pickle.Unpickler):
    met_celery = False

    def find_class(self, module: str, name: str) -> Any:
        if module == "celery" or module.startswith("celery."):
            self.met_celery = True
            module = "pgtasks" + module.removeprefix("celery")
        return super().find_class(module, name)


def open(  # it takes the place of the module shelve
    filename: str | os.PathLike[str],
    flag: Literal["r", "w", "c", "n"] = "c",
    protocol: int | None = None,
    writeback: bool = False,
) -> Shelf:
    """Open a shelf, as ``shelve.open`` does."""
    return Shelf(os.fspath(filename), flag, protocol, writeback)
