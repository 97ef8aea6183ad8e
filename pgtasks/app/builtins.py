"""The tasks that every application has.

They are registered by Celery's names, which other programs may send. Some are names only:
a signature says ``celery.group`` or ``celery.chain``, and what is sent are its members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pgtasks import canvas
from pgtasks._state import connect_on_app_finalize
from pgtasks.result import result_from_tuple

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = [
    "add_accumulate_task",
    "add_backend_cleanup_task",
    "add_chain_task",
    "add_chord_task",
    "add_chunk_task",
    "add_group_task",
    "add_map_task",
    "add_starmap_task",
    "add_unlock_chord_task",
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
def add_unlock_chord_task(app: Celery) -> Any:
    """``celery.chord_unlock``: a name only.

    In Celery this task looks again and again whether the header of a chord has ended,
    for result stores that cannot count. Here the row of the body waits, and the statement
    that ends the last member releases it; nothing has to look. The name is known so that
    settings that speak of it (routes, annotations, rate limits) stay valid, and a message
    that an old program has left behind is not an unregistered task.
    """

    @app.task(name="celery.chord_unlock", shared=False, lazy=False, ignore_result=True)
    def chord_unlock(*args: Any, **kwargs: Any) -> None:
        """Do nothing: chords need no unlocking."""

    return chord_unlock


@connect_on_app_finalize
def add_map_task(app: Celery) -> Any:
    """``celery.map``: call a task with each item, in one job."""

    @app.task(name="celery.map", shared=False, lazy=False)
    def xmap(task: Any, it: Iterable[Any]) -> list[Any]:
        function = app.signature(task).type
        return [function(item) for item in it]

    return xmap


@connect_on_app_finalize
def add_starmap_task(app: Celery) -> Any:
    """``celery.starmap``: call a task with each item's items, in one job."""

    @app.task(name="celery.starmap", shared=False, lazy=False)
    def xstarmap(task: Any, it: Iterable[Any]) -> list[Any]:
        function = app.signature(task).type
        return [function(*item) for item in it]

    return xstarmap


@connect_on_app_finalize
def add_chunk_task(app: Celery) -> Any:
    """``celery.chunks``: send the jobs of `pgtasks.canvas.chunks`."""

    @app.task(name="celery.chunks", shared=False, lazy=False)
    def chunks(task: Any, it: Iterable[Any], n: int) -> Any:
        return canvas.chunks.apply_chunks(task, it, n, app=app)

    return chunks


@connect_on_app_finalize
def add_group_task(app: Celery) -> Any:
    """``celery.group``: send tasks whose results have been made already."""

    @app.task(name="celery.group", shared=False, lazy=False)
    def group(
        tasks: Iterable[Any],
        result: Any,
        group_id: str,
        partial_args: Iterable[Any] | None,
        add_to_parent: bool = True,
    ) -> Any:
        result = result_from_tuple(result, app)
        # Celery's applications hand out producers, ours do not; a subclass may.
        acquire = getattr(app, "producer_or_acquire", nullcontext)
        with acquire() as producer:
            for task in tasks:
                member = canvas.maybe_signature(task, app=app).clone(partial_args)
                member.apply_async(
                    group_id=group_id, producer=producer, add_to_parent=False
                )
        parent = app.current_worker_task
        if add_to_parent and parent:
            parent.add_trail(result)
        return result

    return group


@connect_on_app_finalize
def add_chain_task(app: Celery) -> Any:
    """``celery.chain``: a name only."""

    @app.task(name="celery.chain", shared=False, lazy=False)
    def chain(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            "chain is not a real task: 'celery.chain' is how a signature says that it is "
            "one. Make it a signature, signature(…), and call apply_async() of that."
        )

    return chain


@connect_on_app_finalize
def add_chord_task(app: Celery) -> Any:
    """``celery.chord``: send a chord."""

    @app.task(name="celery.chord", shared=False, lazy=False, ignore_result=False)
    def chord(
        header: Any,
        body: Any,
        partial_args: Iterable[Any] = (),
        interval: float | None = None,
        countdown: float = 1,
        max_retries: int | None = None,
        eager: bool = False,
        **kwargs: Any,
    ) -> Any:
        if isinstance(header, Mapping):
            header = canvas.maybe_signature(header, app=app).tasks
        members = canvas.group(
            [canvas.maybe_signature(task, app=app) for task in header], app=app
        )
        body = canvas.maybe_signature(body, app=app)
        return canvas.chord(members, body).run(
            members, body, partial_args, app, interval, countdown, max_retries, **kwargs
        )

    return chord
