"""Makes bloated indexes anew, while everybody works on."""

from __future__ import annotations

import logging
from typing import Any

from pgtasks.plugins.base import Plugin, as_age
from pgtasks.storage import leaders, upkeep
from pgtasks.storage.errors import StorageError

__all__ = ["Reindexer"]

logger = logging.getLogger("celery.worker")


class Reindexer(Plugin):
    """Looks for indexes that take several times the room that they need.

    Rows of a queue come and go at one end of its indexes, and pages in which an old entry
    is left are never given back. One index after the other is made anew, concurrently,
    which blocks neither reads nor writes. It needs the rights of the tables' owner: where
    the worker has them not, the log says once what the owner may run.
    """

    name = "reindexer"
    interval = 86400.0
    leader_only = True
    options = {"ratio": 3.0, "min_size": 16 * 2**20, "lock_timeout": 5.0, "limit": 4}

    def validate(self) -> None:
        """Check that the numbers can be meant."""
        for name, least in (("ratio", 1.2), ("min_size", 0), ("limit", 1)):
            value = self.options[name]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or value < least:
                raise ValueError(
                    f"plugins['reindexer'][{name!r}] is {value!r}: give a number of at "
                    f"least {least}."
                )
        where = "plugins['reindexer']['lock_timeout']"
        self._patience = as_age(where, self.options["lock_timeout"])
        self._told: set[str] = set()

    def run(self) -> dict[str, Any]:
        """Clear away what was broken off, then make some indexes anew."""
        schema = self.database.schema
        left = self.database.run(upkeep.invalid(schema))
        dropped = sum(self._do("drop index concurrently", each) for each in left)
        found = self.database.run(
            upkeep.bloated(
                schema, ratio=self.options["ratio"], least=int(self.options["min_size"])
            )
        )
        made = 0
        for each in found[: int(self.options["limit"])]:
            if self.stopping:
                break
            made += self._do("reindex index concurrently", each)
        return {"reindexed_count": made, "dropped_count": dropped}

    def _do(self, what: str, index: upkeep.Index) -> bool:
        """Do it if we may and still lead; whether it was done."""
        if not index.ours:
            if index.name not in self._told:
                self._told.add(index.name)
                logger.warning(
                    "The index %s takes %.0f MB, of which it needs %.0f. It belongs to the "
                    "role %s; have that role run: %s %s.%s;",
                    index.name,
                    index.size / 1e6,
                    index.needed / 1e6,
                    index.owner,
                    what,
                    self.database.schema,
                    index.name,
                )
            return False
        # It is a transaction of its own and cannot carry the term. Two at once would wait
        # for each other, and do the same once more: that is all the harm.
        if self.seat is None or not self.database.run(leaders.renew(self.seat)):
            return False
        act = upkeep.drop if what.startswith("drop") else upkeep.reindex
        try:
            act(self.database, index.name, patience=self._patience)
        except StorageError as error:
            logger.warning("Could not %s %s: %s", what, index.name, error)
            return False
        logger.info("Done: %s %s", what, index.name)
        return True
