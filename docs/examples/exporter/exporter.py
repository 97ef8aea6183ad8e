"""Serves counts of tasks and workers to Prometheus: ``exporter.py proj.app:app 9808``."""

import sys
import threading
from collections import Counter
from wsgiref.simple_server import make_server

from pgtasks.utils.imports import symbol_by_name

app = symbol_by_name(sys.argv[1])
state = app.events.State()
counts: Counter[tuple[str, str]] = Counter()


def count(event):
    state.event(event)
    if event["type"].startswith("task-") and (task := state.tasks.get(event["uuid"])):
        counts[event["type"].replace("-", "_"), task.name or "unknown"] += 1


def metrics(environ, start_response):
    lines = [
        f'celery_{what}_total{{name="{name}"}} {n}'
        for (what, name), n in list(counts.items())
    ]
    for each in list(state.workers.values()):
        lines.append(f'celery_worker_up{{hostname="{each.hostname}"}} {int(each.alive)}')
    start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4")])
    return ["".join(f"{line}\n" for line in lines).encode()]


with app.connection() as connection, make_server("", int(sys.argv[2]), metrics) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    app.events.Receiver(connection, handlers={"*": count}).capture()
