"""Commands that change how a worker works: its pool, and the limits of its tasks.

What they change lasts until the worker ends.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pgtasks.app.traceinfo import printable
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.storage import postponing
from pgtasks.utils.imports import reload_from_cwd
from pgtasks.utils.time import rate
from pgtasks.worker.panel import CommandRefused, State, control_command, nok, ok

__all__ = [
    "autoscale",
    "pool_grow",
    "pool_restart",
    "pool_shrink",
    "rate_limit",
    "time_limit",
]

logger = logging.getLogger("celery.worker.control")

BATCH = 10_000
"""Jobs that are brought forward in one statement."""


# ── tasks ───────────────────────────────────────────────────────────────────────────────


@control_command(
    args=[("task_name", str), ("rate_limit", str)],
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def rate_limit(state: State, task_name: str, rate_limit: Any, **kwargs: Any) -> Any:
    """Have a task begin at most so often in each worker."""
    try:
        per_second = float(rate(rate_limit))
        if per_second < 0:
            raise ValueError("it is less than 0")
    except (KeyError, TypeError, ValueError) as error:
        why = error.args[0] if error.args else error
        return nok(f"Invalid rate limit string: {rate_limit!r}: {why}")
    task: Any = state.app.tasks.get(task_name)
    if task is None:
        logger.warning("Rate limit attempt for unknown task %s", printable(task_name))
        return nok("unknown task")
    task.rate_limit = rate_limit
    state.consumer.reset_rate_limits()
    # What was put off by the old limit is to be judged by the new one.
    query = postponing.bring_forward([task.name], limit=BATCH)
    while state.app.database.run(query) == BATCH:
        pass
    state.worker.stager.wakeup.set()
    if not per_second:
        logger.info("Rate limits disabled for tasks of type %s", printable(task_name))
        return ok("rate limit disabled successfully")
    logger.info("New rate limit for tasks of type %s: %s", printable(task_name), rate_limit)
    return ok("new rate limit set successfully")


@control_command(
    args=[("task_name", str), ("soft", float), ("hard", float)],
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(
    state: State,
    task_name: str | None = None,
    hard: float | None = None,
    soft: float | None = None,
    **kwargs: Any,
) -> Any:
    """Give a task other time limits."""
    task: Any = state.app.tasks.get(task_name or "")
    if task is None:
        logger.warning(
            "Change time limit attempt for unknown task %s", printable(task_name)
        )
        return nok("unknown task")
    task.soft_time_limit, task.time_limit = soft, hard
    state.worker.forget_limits(task.name)
    logger.info("New time limits of %s: soft %s, hard %s", task.name, soft, hard)
    return ok("time limits set successfully")


# ── the pool ────────────────────────────────────────────────────────────────────────────


@control_command(args=[("n", int)], signature="[N=1]")
def pool_grow(state: State, n: int = 1, **kwargs: Any) -> Any:
    """Run more tasks at a time, by n."""
    _resize(state, n, "grow", "force_scale_up")
    return ok("pool will grow")


@control_command(args=[("n", int)], signature="[N=1]")
def pool_shrink(state: State, n: int = 1, **kwargs: Any) -> Any:
    """Run fewer tasks at a time, by n."""
    _resize(state, n, "shrink", "force_scale_down")
    return ok("pool will shrink")


def _resize(state: State, n: int, verb: str, of_autoscaler: str) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise CommandRefused(f"n={n!r}: give a whole number above 0")
    scaler = getattr(state.worker, "autoscaler", None)
    try:
        if scaler is not None:
            getattr(scaler, of_autoscaler)(n)
        else:
            _of_pool(state, verb)(n)
    except ValueError as error:
        raise CommandRefused(str(error)) from error


@control_command()
def pool_restart(
    state: State,
    modules: Iterable[str] | None = None,
    reload: bool = False,
    reloader: Callable[[Any], Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Replace the processes that run tasks; the setting worker_pool_restarts allows it."""
    if not state.app.conf.worker_pool_restarts:
        raise CommandRefused("Pool restarts not enabled: set worker_pool_restarts = True")
    restart = _of_pool(state, "restart")
    _load(state.app, modules, reload=reload, reloader=reloader)
    state.consumer.reset_rate_limits()
    try:
        restart()
    except ImproperlyConfigured as error:
        raise CommandRefused(str(error)) from error
    return ok("reload started")


def _load(
    app: Any,
    modules: Iterable[str] | None,
    *,
    reload: bool,
    reloader: Callable[[Any], Any] | None,
) -> None:
    """Import modules that have not been, and with ``reload`` those again that have."""
    for name in sorted(set(app.loader.task_modules if modules is None else modules)):
        if name not in sys.modules:
            logger.debug("importing module %s", name)
            app.loader.import_from_cwd(name)
        elif reload:
            logger.debug("reloading module %s", name)
            reload_from_cwd(sys.modules[name], reloader)


def _of_pool(state: State, verb: str) -> Callable[..., Any]:
    pool = state.worker.pool
    do: Callable[..., Any] | None = getattr(pool, verb, None)
    if do is None:
        name = getattr(pool, "name", type(pool).__name__)
        raise CommandRefused(
            f"the pool {name!r} of this worker cannot {verb}: choose prefork"
        )
    return do


@control_command(args=[("max", int), ("min", int)], signature="[max [min]]")
def autoscale(state: State, max: int | None = None, min: int | None = None) -> Any:
    """Scale between so many and so few tasks at a time."""
    scaler = getattr(state.worker, "autoscaler", None)
    if scaler is None:
        raise CommandRefused(
            "Autoscale not enabled: start the worker with --autoscale MAX,MIN"
        )
    most, least = scaler.update(max, min)
    return ok(f"autoscale now max={most} min={least}")
