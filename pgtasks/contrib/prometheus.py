"""What the plugin ``metrics`` counts, as text for Prometheus.

The text needs no package::

    pgtasks.contrib.prometheus.render(app)

Where the program is a web application, have it served by that one: `application` is for
WSGI. For itself alone, `serve` listens on a port. Of all workers one counts; so it does not
matter how often, or by how many, this is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from pgtasks.storage import leaders, upkeep

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["CONTENT_TYPE", "application", "render", "serve"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Family(NamedTuple):
    name: str
    help: str
    samples: list[tuple[dict[str, str], float]]


def render(app: Celery) -> str:
    """The metrics, in Prometheus' text format.

    ``pgtasks_up`` is 0 where nothing has been counted yet: no worker runs, or the plugin
    ``metrics`` is switched off.

    Args:
        app: The application whose database is asked.

    Raises:
        StorageError: The database cannot be asked.
    """
    kept = app.database.run(upkeep.kept("jobs"), retry=True)
    lines: list[str] = []
    for family in _families(app, kept):
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} gauge")
        for labels, value in family.samples:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            braces = f"{{{shown}}}" if shown else ""
            lines.append(f"{family.name}{braces} {float(value)!r}")
    return "\n".join(lines) + "\n"


def _families(app: Any, kept: upkeep.Kept | None) -> Iterator[_Family]:
    up = 0.0 if kept is None else 1.0
    yield _Family("pgtasks_up", "Whether anything has been counted.", [({}, up)])
    sitting = app.database.run(leaders.sitting(), retry=True)
    yield _Family(
        "pgtasks_leader",
        "Who leads an office, with its term; 0 where that is over.",
        [
            ({"office": each.office, "node": each.node, "term": str(each.term)}, each.sits)
            for each in sitting
        ],
    )
    if kept is None:
        return
    found = kept.document
    yield _Family(
        "pgtasks_metrics_age_seconds",
        "Time since it was counted.",
        [({}, round(kept.age, 3))],
    )
    yield _Family(
        "pgtasks_jobs",
        "Unfinished jobs.",
        [(_of(each), each["count"]) for each in found["jobs"]],
    )
    yield _Family(
        "pgtasks_oldest_job_age_seconds",
        "Time that the oldest of these jobs has been due.",
        [(_of(each), each["age"]) for each in found["jobs"]],
    )
    yield _Family(
        "pgtasks_finished_jobs_per_second",
        "Jobs that ended lately.",
        [(_of(each), each["rate"]) for each in found["ended"]],
    )
    workers = found["workers"]
    yield _Family("pgtasks_workers", "Workers that are alive.", [({}, len(workers))])
    yield _Family(
        "pgtasks_worker_slots",
        "Jobs that a worker runs at a time.",
        [({"node": each["name"]}, each["concurrency"]) for each in workers],
    )


def _of(each: dict[str, Any]) -> dict[str, str]:
    return {"queue": each["queue"], "state": each["state"]}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def application(app: Celery) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that answers each request with the metrics."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = render(app).encode()
        length = str(len(body))
        start_response(
            "200 OK", [("Content-Type", CONTENT_TYPE), ("Content-Length", length)]
        )
        return [body]

    return answer


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """One line for each scrape helps nobody."""


def serve(app: Celery, port: int = 9808, host: str = "127.0.0.1") -> WSGIServer:
    """Listen for Prometheus; ``serve(app).serve_forever()`` answers until it is ended.

    Args:
        app: The application.
        port: 0 takes any that is free; see ``server_port`` of the answer.
        host: Address to listen on; whoever reaches it may read names of queues and workers.
    """
    return make_server(host, port, application(app), handler_class=_Quiet)
