"""What a subclass of the worker may do at the turns of its life, and what it tells of itself."""

from __future__ import annotations

import os
import resource
import time
from typing import TYPE_CHECKING, Any

from pgtasks.worker import identity, state

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pgtasks.worker.acker import Acker
    from pgtasks.worker.begun import BegunFile
    from pgtasks.worker.pools.base import Pool

__all__ = ["Hooks"]

RUSAGE = (
    "utime", "stime", "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt", "nswap",
    "inblock", "oublock", "msgsnd", "msgrcv", "nsignals", "nvcsw", "nivcsw",
)  # fmt: skip


class Hooks:
    """The part of a worker that does nothing by itself."""

    if TYPE_CHECKING:
        app: Any
        acker: Acker
        begun: BegunFile
        pool: Pool
        totals: Any
        started_at: float
        lease: float
        default_limits: tuple[float, float]

        held: Callable[[], list[Any]]
        step_info: Callable[[], dict[str, Any]]

    # ── for subclasses ──────────────────────────────────────────────────────────────────

    def on_before_init(self, **kwargs: Any) -> None:
        """It is about to be made, with these options."""

    def on_after_init(self, **kwargs: Any) -> None:
        """It has been made, with these options."""

    def setup_defaults(
        self,
        concurrency: int | str | None = None,
        pool: str | None = None,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what it was not told from the settings; what is changed behind it stays so."""
        conf = self.app.conf
        places = concurrency or conf.worker_concurrency
        self.concurrency = identity.processors(places)
        self._places_chosen = places == "auto"
        self.pool_name = pool or conf.worker_pool or "prefork"
        self.max_tasks_per_child = max_tasks_per_child or conf.worker_max_tasks_per_child
        self.max_memory_per_child = max_memory_per_child or conf.worker_max_memory_per_child

    def on_start(self) -> None:
        """It is about to start its services."""

    def on_consumer_ready(self, consumer: Any) -> None:
        """It takes jobs, which is the part of the ``consumer``."""

    def on_close(self) -> None:
        """It takes no more."""

    def on_stopped(self) -> None:
        """It has ended."""

    # ── facts ───────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> ModuleType:
        """What this process knows of its workers: `pgtasks.worker.state`."""
        return state

    def info(self) -> dict[str, Any]:
        """How much it has done, and since when."""
        return {
            "total": dict(self.totals),
            "pid": os.getpid(),
            # Of kombu, which nobody loads to be told that it has not moved.
            "clock": str(self.app.clock.value) if "clock" in vars(self.app) else "0",
            "uptime": round(time.time() - self.started_at),
        }

    def rusage(self) -> dict[str, Any]:
        """What its process has used."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {name: getattr(usage, f"ru_{name}") for name in RUSAGE}

    def stats(self) -> dict[str, Any]:
        """All that ``inspect stats`` shows."""
        held = self.held()
        scaler = getattr(self, "autoscaler", None)
        return {
            **self.info(),
            **self.step_info(),
            **({} if scaler is None else {"autoscaler": scaler.info()}),
            "pool": {**self.pool.describe(), "timeouts": list(self.default_limits)},
            "broker": self._broker(),
            "prefetch_count": len(held) + self.pool.demand,
            "rusage": self.rusage(),
            "worker": {
                "id": self.begun.worker,
                "lease": self.lease,
                "held": len(held),
                "unwritten": self.acker.backlog,
                "refused": self.acker.refused,
            },
        }

    def _broker(self) -> dict[str, Any]:
        given = self.app.database.endpoint.given
        return {
            "transport": "postgresql",
            "hostname": given.get("host"),
            "port": int(given["port"]) if given.get("port", "").isdigit() else None,
            "userid": given.get("user"),
            "virtual_host": given.get("dbname"),
            "schema": self.app.database.schema,
        }
