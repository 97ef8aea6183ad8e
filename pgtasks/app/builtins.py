"""The tasks that every application has.

They are registered by Celery's names, which other programs may send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks._state import connect_on_app_finalize

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = [
    "add_accumulate_task",
    "add_backend_cleanup_task",
    "add_map_task",
    "add_starmap_task",
]


@connect_on_app_finalize
def add_backend_cleanup_task(app: Celery) -> Any:
    """``celery.backend_cleanup``: remove results that have expired."""

    @app.task(name="celery.backend_cleanup", shared=False, lazy=False)
    def backend_cleanup() -> None:
        app.backend.cleanup()

    return backend_cleanup


@connect_on_app_finalize
def add_accumulate_task(app: Celery) -> Any:
    """``celery.accumulate``: hand on what has been gathered, or one item of it."""

    @app.task(name="celery.accumulate", shared=False, lazy=False)
    def accumulate(*args: Any, **kwargs: Any) -> Any:
        index = kwargs.get("index")
        return args[index] if index is not None else args

    return accumulate


@connect_on_app_finalize
def add_map_task(app: Celery) -> Any:
    """``celery.map``: call a task with each item, in one job."""

    @app.task(name="celery.map", shared=False, lazy=False)
    def xmap(task: Any, it: Any) -> list[Any]:
        function = app.signature(task).type
        return [function(item) for item in it]

    return xmap


@connect_on_app_finalize
def add_starmap_task(app: Celery) -> Any:
    """``celery.starmap``: call a task with each item's items, in one job."""

    @app.task(name="celery.starmap", shared=False, lazy=False)
    def xstarmap(task: Any, it: Any) -> list[Any]:
        function = app.signature(task).type
        return [function(*item) for item in it]

    return xstarmap
