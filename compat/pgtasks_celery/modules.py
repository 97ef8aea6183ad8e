"""Which module of ours stands for which of Celery's, and what to do without one."""

from __future__ import annotations

__all__ = ["advice_for", "counterpart"]

#: Exceptions to the rule that ``celery.x`` is ``pgtasks.x``.
COUNTERPARTS: dict[str, str] = {}

#: What to say of modules that have none, by the longest prefix.
ADVICE = {
    "celery": "no module of that name has a counterpart. If you need it, please open "
    "an issue that says what for; see docs/reference/compatibility.md.",
    "celery.backends": "results are kept in PostgreSQL, and 'result_backend' may stay as "
    "it is or go. To keep reading old results, install Celery beside and read them in a "
    "process without the alias.",
    "celery.concurrency": "pools are pgtasks' own; choose one with --pool or the "
    "'worker_pool' setting (prefork, threads, solo).",
    "celery.worker.consumer": "jobs are fetched from PostgreSQL and there is no broker "
    "to consume from; react to jobs with signals (pgtasks.signals) or bootsteps.",
    "celery.contrib.migrate": "there are no broker messages to move; jobs are rows, see "
    "'pgtasks doctor'.",
    "celery.task": "Celery 4 removed it; use app.task or shared_task.",
    "celery.decorators": "Celery 4 removed it; use app.task or shared_task.",
}


def counterpart(name: str) -> str:
    """Name of the module that serves imports of ``name``."""
    return COUNTERPARTS.get(name) or "pgtasks" + name.removeprefix("celery")


def advice_for(name: str) -> str:
    """What to do instead of importing ``name``."""
    while name not in ADVICE:
        name = name.rpartition(".")[0]
    return ADVICE[name]
