"""When periodic tasks run: intervals, crontabs and the sun.

Each schedule answers one question, `BaseSchedule.is_due`: the task ran then, is
it due now, and when should the scheduler look again?
"""

from __future__ import annotations

from pgtasks.schedules.base import BaseSchedule, schedstate
from pgtasks.schedules.cron import ParseException, crontab, crontab_parser
from pgtasks.schedules.interval import maybe_schedule, schedule
from pgtasks.schedules.sun import solar

__all__ = [
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]

# Schedules are pickled and printed by the name that users import them by, which
# must not change with the arrangement of files.
for _class in (BaseSchedule, schedstate, schedule, crontab, crontab_parser, solar):
    _class.__module__ = __name__
ParseException.__module__ = __name__
