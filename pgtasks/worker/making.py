"""Makes what a worker chooses by name: its pool, and what scales it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pgtasks.app import execute
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.imports import symbol_by_name
from pgtasks.worker.pools import by_name
from pgtasks.worker.pools.child import Child

if TYPE_CHECKING:
    from pgtasks.worker.autoscale import Autoscaler
    from pgtasks.worker.pools.base import Pool
    from pgtasks.worker.worker import Worker

__all__ = ["make_autoscaler", "make_pool"]


def make_pool(worker: Worker) -> Pool:
    """The pool of a worker; before its threads and connections, for it may fork.

    Raises:
        ValueError: There is none of that name.
        ImproperlyConfigured: It cannot be had in this process.
    """
    kind: Any = by_name(worker.pool_name)
    if kind.name == "solo":
        worker.concurrency = 1
    common = {
        "reports": worker,
        "concurrency": worker.concurrency,
        "begun": worker.begun,
        "lease": worker.lease,
    }
    pool: Pool = kind(**common, **_OWN.get(kind.name, _in_process)(worker))
    return pool


def make_autoscaler(worker: Worker) -> Autoscaler:
    """The autoscaler of a worker: the class that the setting ``worker_autoscaler`` names.

    Raises:
        ImproperlyConfigured: The pool has one place, and no other number.
    """
    if worker.pool.name == "solo":
        raise ImproperlyConfigured(
            f"--autoscale={worker.max_concurrency},{worker.min_concurrency}: the pool 'solo' "
            f"runs one job at a time. Choose another one with -P, or leave --autoscale out."
        )
    kind: Any = symbol_by_name(worker.app.conf.worker_autoscaler)
    scaler: Autoscaler = kind(
        worker.pool, worker.max_concurrency, worker.min_concurrency, worker=worker
    )
    return scaler


def _in_process(worker: Worker) -> dict[str, Any]:
    return {"execute": worker.execute}


def _asyncio(worker: Worker) -> dict[str, Any]:
    app, name = worker.app, worker.hostname
    return {
        "execute": worker.execute,
        "aexecute": lambda job, body: execute.aexecute(app, job, body=body, hostname=name),
        "is_async": partial(execute.is_async, app, hostname=name),
    }


def _prefork(worker: Worker) -> dict[str, Any]:
    child = Child(
        worker.execute,
        worker.begun,
        lease=worker.lease,
        max_jobs=worker.max_tasks_per_child,
        max_memory=worker.max_memory_per_child,
        on_start=worker.on_child_start,
        on_stop=worker.on_process_stop,
    )
    alive_timeout = float(worker.app.conf.worker_proc_alive_timeout)
    return {"run_child": child, "alive_timeout": alive_timeout}


_OWN = {"asyncio": _asyncio, "prefork": _prefork}
