"""The doors upwards: what an application leads to, on floors that it must not import.

Each is a name with the place where it is found, opened when somebody asks for it. This is
the only module of the client that knows of them.
"""

from __future__ import annotations

from typing import Any

from pgtasks.utils.imports import symbol_by_name

__all__ = ["DOORS", "open_door"]

DOORS = {
    "Worker": "pgtasks.worker.worker:Worker",
    "WorkController": "pgtasks.worker.worker:Worker",
    "Beat": "pgtasks.beat.program:Beat",
    "Crons": "pgtasks.beat.crons:Crons",
    "SharedScheduler": "pgtasks.plugins.shared_beat:SharedScheduler",
    "debugger": "pgtasks.contrib.rdb:set_trace",
    "cli": "pgtasks.bin.celery:main",
    "django": "pgtasks.fixups.django:fixup",
    "embedded": "pgtasks.dev.postgres:shared_server",
}


def open_door(name: str) -> Any:
    """Answer what stands behind a door.

    Raises:
        ImportError: Nothing does in this installation.
    """
    return symbol_by_name(DOORS[name])
