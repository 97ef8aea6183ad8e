"""Commands that look into a worker's memory."""

from __future__ import annotations

import importlib
import resource
import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

from pgtasks.utils import debug
from pgtasks.worker.panel import CommandRefused, State, inspect_command

__all__ = ["memdump", "memsample", "objgraph"]


@inspect_command()
def memsample(state: State, **kwargs: Any) -> Any:
    """Note how much memory the worker takes."""
    return debug.sample_mem() or _resident()


def _resident() -> str | None:
    """What `memsample` answers where psutil is not installed."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return debug.humanbytes(pages * resource.getpagesize())


@inspect_command(args=[("samples", int)], signature="[n_samples=10]")
def memdump(state: State, samples: int = 10, **kwargs: Any) -> Any:
    """Tell what was noted of it; it is forgotten then."""
    told = StringIO()
    debug.memdump(samples, file=told)
    return told.getvalue()


@inspect_command(
    default_timeout=60.0,
    args=[("type", str), ("num", int), ("max_depth", int)],
    signature="[object_type=Request] [num=200 [max_depth=10]]",
)
def objgraph(
    state: State, num: int = 200, max_depth: int = 10, type: str = "Request"
) -> Any:
    """Draw what keeps objects of a class alive; needs objgraph."""
    try:
        drawing: Any = importlib.import_module("objgraph")
    except ImportError:
        raise CommandRefused(
            "This worker has no library to draw with: install objgraph, and graphviz."
        ) from None
    with tempfile.NamedTemporaryFile(
        prefix="pgtasks-objgraph-", suffix=".png", delete=False
    ) as file:
        objects = drawing.by_type(type)[:num]
        marked = set(map(id, objects))
        drawing.show_backrefs(
            objects,
            max_depth=max_depth,
            highlight=lambda each: id(each) in marked,
            filename=file.name,
        )
    return {"filename": file.name}
