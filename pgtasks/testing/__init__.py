"""Tests of programs that send jobs: run them inline, look at what is enqueued, drain it.

`mode` and the setting ``task_testing`` decide what sending does. `perform_job` runs one
job as a worker would. `assert_enqueued`, `refute_enqueued` and `all_enqueued` look at the
jobs that wait, and `drain_queue` runs them. All of them work on PostgreSQL, inside a
transaction of the test's own too, and with ``memory://``.
"""

from __future__ import annotations

from pgtasks.testing.draining import drain_queue
from pgtasks.testing.enqueued import all_enqueued, assert_enqueued, refute_enqueued
from pgtasks.testing.helper import Testing
from pgtasks.testing.jobs import Enqueued
from pgtasks.testing.modes import mode
from pgtasks.testing.performing import Performed, perform_job

__all__ = [
    "Enqueued",
    "Performed",
    "Testing",
    "all_enqueued",
    "assert_enqueued",
    "drain_queue",
    "mode",
    "perform_job",
    "refute_enqueued",
]
