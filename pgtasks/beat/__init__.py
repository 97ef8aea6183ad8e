"""Periodic tasks: a schedule of entries, and what sends each when it is due.

::

    Service, a loop in a process or thread of its own
    └── Scheduler                keeps the entries on a heap, by the time of their next run
        ├── PersistentScheduler  and the moments of their last runs in a file
        └── ScheduleEntry        a task, its arguments, and a schedule that says when
"""

from __future__ import annotations

import logging

from pgtasks.utils.log import get_logger

# Before the modules below: they log through these, which others replace here.
logger: logging.Logger = get_logger("celery.beat")
debug, info, error, warning = logger.debug, logger.info, logger.error, logger.warning

DEFAULT_MAX_INTERVAL = 300
"""Seconds after which the schedule is looked at again at the latest."""

from pgtasks.beat.entry import (  # noqa: E402
    BeatLazyFunc,
    ScheduleEntry,
    SchedulingError,
    event_t,
)
from pgtasks.beat.persistent import PersistentScheduler  # noqa: E402
from pgtasks.beat.scheduler import Scheduler  # noqa: E402
from pgtasks.beat.service import (  # noqa: E402
    BeatPidbox,
    EmbeddedService,
    Service,
    beat_nodename,
)

__all__ = [
    "DEFAULT_MAX_INTERVAL",
    "BeatLazyFunc",
    "BeatPidbox",
    "EmbeddedService",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "Service",
    "beat_nodename",
    "event_t",
]
