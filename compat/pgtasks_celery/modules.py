"""Which module of ours stands for which of Celery's, and what to do without one."""

from __future__ import annotations

__all__ = ["advice_for", "counterpart"]

#: Exceptions to the rule that ``celery.x`` is ``pgtasks.x``.
COUNTERPARTS: dict[str, str] = {}

#: What to say of modules that have none, by the longest prefix.
ADVICE = {
    "celery": "no module of that name has a counterpart. The documentation tells what to "
    "use instead, under 'Move a Celery app'; if that does not help, please open an issue.",
    "celery.backends": "results are kept in PostgreSQL, and the setting 'result_backend' may "
    "stay as it is or go. Old results are read with Celery, in a process without the alias.",
    "celery.concurrency": "pools are pgtasks' own. Choose one with --pool or the setting "
    "'worker_pool': prefork, threads or solo.",
    "celery.worker.consumer": "jobs are fetched from PostgreSQL, so there is no broker to "
    "consume from. To react to jobs, use the signals in celery.signals.",
    "celery.contrib.migrate": "there are no messages to move from broker to broker.",
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
