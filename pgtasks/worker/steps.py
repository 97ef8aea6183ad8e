"""The boot steps of a worker: what a program has added to it, made, started and stopped."""

from __future__ import annotations

import logging
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pgtasks import bootsteps
from pgtasks.exceptions import PgtasksError
from pgtasks.worker.consumer import Consumer

if TYPE_CHECKING:
    from pgtasks.utils.timer2 import Timer

__all__ = ["StepError", "Stepped"]

logger = logging.getLogger("celery.worker")

TICK = 0.5
"""Seconds that the timer sleeps at most, which is how long its end may take."""

PATIENCE = 2.0
"""Seconds for which a worker that stops waits for a function of its timer's."""


class StepError(PgtasksError):
    """A boot step could not be started, so the worker has stopped."""


class Stepped:
    """The part of a worker that knows its boot steps.

    Attributes:
        steps: The steps of ``app.steps["worker"]`` that can be started, in order.
        blueprint: Their order, once the worker has been set up.
        consumer: The parent of the steps of ``app.steps["consumer"]``.
    """

    class Blueprint(bootsteps.Blueprint):
        """The boot steps of a worker."""

        name = "Worker"

    app: Any
    hostname: str
    steps: list[Any]
    consumer: Consumer
    blueprint: bootsteps.Blueprint | None = None

    @cached_property
    def timer(self) -> Timer:
        """A thread that calls functions later; begins with the first of them."""
        from pgtasks.utils.timer2 import Timer

        return Timer(max_interval=TICK)

    def make_steps(self, **options: Any) -> None:
        """Make the steps, before anything is forked: children see what they change.

        Args:
            **options: What the worker was made with.
        """
        self.steps = []
        self.blueprint = self.Blueprint(self.app.steps["worker"])
        self.blueprint.apply(self, **options)
        consumer = self.consumer
        consumer.blueprint = consumer.Blueprint(self.app.steps["consumer"])
        consumer.blueprint.apply(consumer, **options)

    def start_steps(self) -> None:
        """Start them, when the services run; those of the consumer after the others.

        Raises:
            StepError: One of them raised; those before it are stopped again.
        """
        for parent in (self, self.consumer):
            blueprint = parent.blueprint
            assert blueprint is not None
            try:
                blueprint.start(parent)
            except Exception as error:
                step = parent.steps[blueprint.started - 1]
                # A blueprint that has not started altogether stops nothing.
                del parent.steps[blueprint.started - 1 :]
                blueprint.started = len(parent.steps)
                name = type(step).name
                logger.critical(
                    "The boot step %s did not start: %r", name, error, exc_info=True
                )
                raise StepError(
                    f"The worker stops, for its boot step {name} did not start: {error!r}. "
                    f"Mend it, or take it out of app.steps."
                ) from error

    def stop_steps(self, *, cold: bool) -> None:
        """Stop them, the last ones first; what they raise is logged.

        Args:
            cold: There is no time.
        """
        if "timer" in vars(self):
            # Before them: what a step takes away, nothing that it has timed brings back.
            self._stop_timer()
        for parent in (self.consumer, self):
            if parent.blueprint is not None:
                try:
                    parent.blueprint.stop(parent, terminate=cold)
                except BaseException as error:
                    # sys.exit() in a step that ends, of all things.
                    logger.error("A boot step ended with %r.", error, exc_info=True)
        if self.consumer.blueprint is not None:
            self.consumer.blueprint.shutdown(self.consumer)

    def _stop_timer(self) -> None:
        # Not without end: it waits for the function that runs.
        end = threading.Thread(target=self.timer.stop, daemon=True)
        end.start()
        end.join(PATIENCE)

    def step_info(self) -> dict[str, Any]:
        """What the steps tell of themselves."""
        told: dict[str, Any] = {}
        for parent in (self, self.consumer):
            if parent.blueprint is not None:
                told.update(parent.blueprint.info(parent))
        return told

    def __repr__(self) -> str:
        state = self.blueprint.human_state() if self.blueprint else "initializing"
        return f"<Worker: {self.hostname} ({state})>"
