"""What happens inside, told to whoever wants to count, time or log it.

::

    def measure(event, measurements, metadata, config):
        statsd.timing(metadata["task"], measurements["duration"])

    pgtasks.telemetry.attach("pgtasks.job.stop", measure)

Handlers are called in the process, and the thread, in which it happens: job events where
the job runs, which in a prefork worker is a child. Attach where the tasks are defined, so
that every worker does. While nobody is attached, an event costs one test.
"""

from __future__ import annotations

from pgtasks.telemetry.events import EVENTS, Event
from pgtasks.telemetry.logger import attach_default_logger, detach_default_logger
from pgtasks.telemetry.registry import (
    HANDLERS,
    Handler,
    attach,
    attach_many,
    detach,
    execute,
    list_handlers,
    span,
)

__all__ = [
    "EVENTS",
    "HANDLERS",
    "Event",
    "Handler",
    "attach",
    "attach_default_logger",
    "attach_many",
    "detach",
    "detach_default_logger",
    "execute",
    "list_handlers",
    "span",
]
