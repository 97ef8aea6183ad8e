"""What a shell offers behind Tab: tasks, queues and workers, asked of whoever knows.

A mistake here must not end up between the words of a command line: whatever goes wrong,
nothing is offered.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from pgtasks.cli.invocation import Invocation

__all__ = ["control_commands", "queues", "silence", "tasks", "workers"]

PATIENCE = 2.0
"""Seconds that the database has to answer somebody who waits behind Tab."""

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offer(find: Callable[[Any], Iterable[str]]) -> Offer:
    """Offer the words that ``find`` finds for an application; a decorator."""

    def offer(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, word = incomplete.rpartition(",")
        found: set[str] = set()
        # Importing a program may print; a name that is missing may be a mistake of it.
        with silence():
            invocation = ctx.find_object(Invocation) or Invocation()
            found.update(find(invocation.application))
        return [
            CompletionItem(f"{before}{comma}{each}")
            for each in sorted(found)
            if each.startswith(word)
        ]

    return offer


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let nothing be printed, and nothing go wrong that is heard of."""
    nowhere = io.StringIO()
    with (
        contextlib.suppress(Exception),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _loaded(app: Any) -> Any:
    app.loader.import_default_modules()
    app.finalize()
    return app


@_offer
def tasks(app: Any) -> Iterable[str]:
    """Names of tasks that the application has."""
    return list(_loaded(app).tasks)


@_offer
def queues(app: Any) -> Iterable[str]:
    """Names of queues: those that are declared, and those that there are."""
    from pgtasks.app.control import known_queues

    found = list(known_queues(app))
    if _asks(app):
        from pgtasks.storage import queues as storage

        with contextlib.suppress(Exception):
            standing = app.database.run(storage.list_(), timeout=PATIENCE)
            found += [each.queue for each in standing if each.queue != "*"]
    return found


@_offer
def workers(app: Any) -> Iterable[str]:
    """Names of the workers that live."""
    if not _asks(app):
        return []
    from pgtasks.storage import workers as storage

    return [each.name for each in app.database.run(storage.live(), timeout=PATIENCE)]


def _asks(app: Any) -> bool:
    """Whether there is a database to ask; none is started for the sake of a word."""
    from pgtasks.app.connection import EMBEDDED, database_url, keeps_jobs_in_memory

    return not keeps_jobs_in_memory(app) and database_url(app) != EMBEDDED


def control_commands(kind: str) -> Offer:
    """Names of the commands to workers: ours, and those that the application adds."""

    def find(app: Any) -> Iterable[str]:
        from pgtasks.worker.control import Panel

        _loaded(app)
        return [
            name for name, info in Panel.meta.items() if info.type == kind and info.visible
        ]

    return _offer(find)
