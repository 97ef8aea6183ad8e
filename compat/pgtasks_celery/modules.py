"""Which module of ours stands for which of Celery's, and what to do without one."""

from __future__ import annotations

__all__ = ["PACKAGES", "advice_for", "counterpart"]

#: Exceptions to the rule that ``celery.x`` is ``pgtasks.x``.
COUNTERPARTS: dict[str, str] = {
    "celery.bin.events": "pgtasks.cli.events",
} | {
    f"celery.worker.consumer.{part}": "pgtasks.worker.consumer"
    for part in (
        "agent", "connection", "consumer", "control", "events", "gossip", "heart", "mingle",
        "tasks",
    )
}  # fmt: skip

#: Packages of Celery's that are plain modules here: what is below them has to be asked for
#: all the same, to be told what to use instead.
PACKAGES = frozenset({"celery.worker.consumer"})

#: What to say of modules that have none, by the longest prefix.
ADVICE = {
    "celery": "no module of that name has a counterpart. The documentation tells what to "
    "use instead, under 'Differences from Celery'; if that does not help, please open an "
    "issue.",
    "celery.backends": "results are kept in PostgreSQL, and the setting 'result_backend' may "
    "stay as it is or go. Old results are read with Celery, in a process without the alias.",
    "celery.bin": "commands are found through celery.bin.celery; 'pgtasks --help' lists "
    "them, and one that is not there says what to do instead.",
    "celery.concurrency": "pools are pgtasks' own. Choose one with --pool or the setting "
    "'worker_pool': prefork, threads, asyncio, gevent or solo.",
    "celery.contrib.migrate": "there are no messages to move from broker to broker; 'pgtasks "
    "migrate' takes what waits in one and inserts it as jobs.",
    "celery.decorators": "Celery 4 removed it; use app.task or shared_task.",
    "celery.task": "Celery 4 removed it; use app.task or shared_task.",
    "celery.worker": "jobs are rows, and the parts of the worker are others. Signals "
    "(celery.signals) and celery.worker.state tell what happens in it.",
    "celery.worker.consumer": "jobs are fetched from PostgreSQL, so there is no broker to "
    "consume from. What boot steps require is in celery.worker.consumer itself; to react to "
    "jobs, use the signals in celery.signals.",
}


def counterpart(name: str) -> str:
    """Name of the module that serves imports of ``name``."""
    return COUNTERPARTS.get(name) or "pgtasks" + name.removeprefix("celery")


def advice_for(name: str) -> str:
    """What to do instead of importing ``name``."""
    while name not in ADVICE:
        name = name.rpartition(".")[0]
    return ADVICE[name]
