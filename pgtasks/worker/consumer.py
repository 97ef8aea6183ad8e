"""What Celery calls the consumer: the side of a worker that takes jobs, for signals and steps.

Programs meet it as the sender of ``worker_ready`` and ``task_received``, and as the parent
of the boot steps in ``app.steps["consumer"]``. The work itself is done by the fetcher.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pgtasks import bootsteps

if TYPE_CHECKING:
    from pgtasks.events import EventDispatcher
    from pgtasks.worker.gossip import Elections
    from pgtasks.worker.pools.base import Pool
    from pgtasks.worker.worker import Worker

__all__ = [
    "Agent", "Connection", "Consumer", "Control", "Events", "Gossip", "Heart", "Mingle",
    "Tasks",
]  # fmt: skip


class Consumer:
    """One worker, seen as the one who takes jobs.

    Args:
        worker: The worker.

    Attributes:
        app: The application.
        controller: The worker.
        hostname: Name of the worker.
        steps: The boot steps that it starts.
        blueprint: Their order, once the worker has been set up.
        event_dispatcher: Sends the worker's events, once the worker has been set up.
    """

    class Blueprint(bootsteps.Blueprint):
        """The boot steps of a consumer."""

        name = "Consumer"

        def shutdown(self, parent: Any) -> None:
            """Tell the steps that the worker has let go of its jobs."""
            self.send_all(parent, "shutdown", propagate=False)

    def __init__(self, worker: Worker) -> None:
        self.app = worker.app
        self.controller = worker
        self.hostname = worker.hostname
        self.steps: list[Any] = []
        self.blueprint: Consumer.Blueprint | None = None
        self.event_dispatcher: EventDispatcher | None = None

    @property
    def pool(self) -> Pool:
        """The pool of the worker."""
        return self.controller.pool

    @property
    def timer(self) -> Any:
        """A thread that calls functions later; begins with the first of them."""
        return self.controller.timer

    @cached_property
    def gossip(self) -> Elections:
        """What elects one of the workers to do something."""
        from pgtasks.worker.gossip import Elections

        return Elections(self.controller)

    def add_task_queue(self, queue: str, *args: Any, **options: Any) -> None:
        """Take jobs from another queue too."""
        from pgtasks.worker import control

        control.add_consumer(self._state(), queue)

    def cancel_task_queue(self, queue: str) -> None:
        """Take no more jobs from a queue."""
        from pgtasks.worker import control

        control.cancel_consumer(self._state(), queue)

    # ── rate limits ─────────────────────────────────────────────────────────────────────

    @property
    def task_buckets(self) -> dict[str, Any]:
        """When the tasks that have rate limits may begin next, by their names."""
        return self.controller.rates.buckets

    def bucket_for_task(self, task: Any) -> Any:
        """That of one task; None if it has no rate limit."""
        return self.task_buckets.get(task.name)

    def reset_rate_limits(self) -> None:
        """Look up the rate limits of all tasks anew."""
        self.controller.rates.reset()

    def _state(self) -> Any:
        from pgtasks.worker.panel import State

        return State(self.app, self.hostname, self.controller)

    def __repr__(self) -> str:
        state = self.blueprint.human_state() if self.blueprint else "initializing"
        return f"<Consumer: {self.hostname} ({state})>"


# ── parts that steps may require ────────────────────────────────────────────────────────


class Connection(bootsteps.StartStopStep):
    """The connection to a broker, of which there is none."""


class Events(bootsteps.StartStopStep):
    """What sends events."""

    requires = (Connection,)


class Heart(bootsteps.StartStopStep):
    """What renews the worker's lease."""

    requires = (Events,)


class Mingle(bootsteps.StartStopStep):
    """What asks other workers when this one starts; they do not talk to each other."""

    requires = (Events,)


class Tasks(bootsteps.StartStopStep):
    """What takes jobs."""

    requires = (Mingle,)


class Control(bootsteps.StartStopStep):
    """What hears remote commands."""

    requires = (Tasks,)


class Gossip(bootsteps.StartStopStep):
    """What listens to other workers; they do not talk to each other."""

    requires = (Mingle,)


class Agent(bootsteps.StartStopStep):
    """What starts actors, in Celery."""

    requires = (Connection,)
