"""What a worker shows of itself when it starts."""

from __future__ import annotations

import platform
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pgtasks.utils.imports import qualname

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["banner"]

_ART = r"""
   ___    ____
 /   __ \/    \__
|   /  \|   o  / \
|  |    \_/\__/  |
|  |        |  | |
|  |__|--|  |  | |
|__|  |__|__|  \_/
""".strip("\n").splitlines()

_WIDTH = max(map(len, _ART)) + 1
_EVENTS_OFF = "OFF (enable -E to monitor tasks in this worker)"


def banner(
    app: Celery,
    *,
    hostname: str,
    concurrency: str,
    pool: str,
    queues: list[str],
    lease: float,
    task_events: bool,
    tasks: bool,
    builtins: bool = False,
) -> str:
    """Describe a worker before it starts, in Celery's form.

    Args:
        app: Its application.
        hostname: Its name.
        concurrency: How many jobs it runs at a time.
        pool: Where it runs them.
        queues: The queues that it serves.
        lease: Seconds without a sign of life after which others take its jobs over.
        task_events: Whether it tells those who watch events of tasks.
        tasks: List the tasks that it knows.
        builtins: List ours among them.
    """
    from pgtasks import VERSION_BANNER

    embedded = app._connections.embedded
    facts = [
        ("app", _app(app)),
        ("database", _database(app, embedded)),
        ("results", _results(app)),
        ("concurrency", f"{concurrency} ({pool})"),
        ("lease", f"{lease:g} s"),
        ("task events", "ON" if task_events else _EVENTS_OFF),
    ]
    lines = [
        f"{hostname} v{VERSION_BANNER}",
        "",
        f"{platform.platform()} {datetime.now().replace(microsecond=0)}",
        "",
        "[config]",
        *(f".> {name + ':':<12} {value}" for name, value in facts),
        "",
        "[queues]",
        *(f".> {queue}" for queue in sorted(queues)),
    ]
    art = [*_ART, *[""] * len(lines)]
    lines = [f" {left:<{_WIDTH}} {line}".rstrip() for left, line in zip(art, lines)]  # noqa: B905
    if embedded:
        lines += ["", "embedded server: for development only, never for production"]
    if tasks:
        known = [name for name in sorted(app.tasks) if builtins or not _is_ours(name)]
        lines += ["", "[tasks]", *(f"  . {name}" for name in known)]
    return "\n".join(["", *lines, ""])


def _is_ours(name: str) -> bool:
    return name.startswith("celery.")


def _app(app: Celery) -> str:
    text = f"{app.main or '__main__'}:{id(app):#x}"
    loader: Any = qualname(app.loader)
    return (
        text if loader.endswith(".AppLoader") else f"{text} ({loader.rpartition('.')[2]})"
    )


def _results(app: Celery) -> str:
    if type(app.backend).__module__ == "pgtasks.backends.postgres":
        return "in the same database"
    return str(app.backend.as_uri())


def _database(app: Celery, embedded: bool) -> str:
    database = app.database
    text = database.endpoint.address
    if embedded:
        text = f"embedded PostgreSQL {app._connections._embedded.version}"
    return text if database.schema == "pgtasks" else f"{text} (schema {database.schema})"
