"""A file in which a program keeps the ids that it has revoked, as ``celery.worker.state`` had.

Workers need none: what is revoked here ends in the table, and stays so. This is for programs
that fill ``worker.state.revoked`` themselves and want it back after a restart.
"""

from __future__ import annotations

import pickle
import shelve
import zlib
from functools import cached_property
from typing import Any

__all__ = ["Persistent"]


class Persistent:
    """Keeps ``state.revoked`` in a file; begins with what the file has.

    Args:
        state: The module `pgtasks.worker.state`.
        filename: Where. It is read with pickle, so nobody else may write there.
        clock: A logical clock to be kept as well.
    """

    storage: Any = shelve
    protocol = pickle.HIGHEST_PROTOCOL
    compress = staticmethod(zlib.compress)
    decompress = staticmethod(zlib.decompress)
    _is_open = False

    def __init__(self, state: Any, filename: str, clock: Any = None) -> None:
        self.state, self.filename, self.clock = state, filename, clock
        self.merge()

    @cached_property
    def db(self) -> Any:
        """The file, opened when it is first asked for."""
        self._is_open = True
        return self.open()

    def open(self) -> Any:
        """Open the file."""
        return self.storage.open(self.filename, protocol=self.protocol, writeback=True)

    def merge(self) -> None:
        """Take over what the file has."""
        self._merge_with(self.db)

    def sync(self) -> None:
        """Write to the file."""
        self._sync_with(self.db)
        self.db.sync()

    def save(self) -> None:
        """Write to the file and close it."""
        self.sync()
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._is_open:
            self.db.close()
            self._is_open = False

    def _merge_with(self, kept: Any) -> Any:
        packed = kept.get("zrevoked")
        if packed:
            ids = pickle.loads(self.decompress(packed))  # noqa: S301 - a file of one's own
            self.state.merge_revoked(ids)
        # As Celery wrote it before version 4, which read it once.
        self.state.merge_revoked(kept.pop("revoked", None))
        self.state.revoked.purge()
        if self.clock:
            kept["clock"] = self.clock.adjust(kept.get("clock") or 0)
        return kept

    def _sync_with(self, kept: Any) -> Any:
        self.state.revoked.purge()
        kept["zrevoked"] = self.compress(self._dumps(self.state.revoked))
        kept["clock"] = self.clock.forward() if self.clock else 0
        return kept

    def _dumps(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=self.protocol)
