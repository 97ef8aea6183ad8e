"""Requests of classes of the users' own: told of what becomes of their jobs.

A task whose ``Request`` names a subclass has it made for each of its jobs, as Celery's worker
does, and its hooks called: ``on_accepted``, ``on_timeout``, ``on_success``, ``on_failure``,
``on_retry`` (Celery's guide: "Tasks", "Requests and custom requests"). Others cost one look
into a dictionary.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pgtasks.app.traceinfo import printable
from pgtasks.backends.rows import exception_named
from pgtasks.exceptions import WorkerLostError
from pgtasks.utils.einfo import ExceptionInfo
from pgtasks.utils.imports import symbol_by_name
from pgtasks.worker.request import Request

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.job import Job
    from pgtasks.storage.jobs import Settlement

__all__ = ["CustomRequests"]

logger = logging.getLogger("celery.worker.request")


class CustomRequests:
    """The requests, of classes of the users' own, that a worker holds.

    A hook that raises is logged, and changes nothing: the end of a job is written by then,
    and its worker goes on. They are called in the worker, not in the process that runs the
    task, one after the other.

    Args:
        app: The application.
        hostname: Tells the name of the worker.
    """

    def __init__(self, app: Celery, hostname: Callable[[], str]) -> None:
        self._app = app
        self._hostname = hostname
        self._classes: dict[str, type[Request] | None] = {}
        self._held: dict[int, Request] = {}

    def received(self, jobs: Iterable[Job]) -> None:
        """These were claimed, and are about to run."""
        for job in jobs:
            kind = self._class_of(job.task)
            if kind is not None:
                self._make(kind, job)

    def timed_out(self, job: Job, limit: float, *, soft: bool) -> None:
        """A time limit was reached."""
        request = self._held.get(job.id)
        if request is not None:
            self._accept(request)
            self._call(request, request.on_timeout, soft, limit)

    def settled(self, ends: Sequence[Settlement]) -> None:
        """These have ended, and that is written."""
        if not self._held:
            return
        for settlement in ends:
            request = self._held.pop(settlement.id, None)
            if request is not None:
                self._end(request, settlement)

    def _class_of(self, name: str) -> type[Request] | None:
        try:
            return self._classes[name]
        except KeyError:
            pass
        kind = None
        named = getattr(self._app.tasks.get(name), "Request", None)
        if named is not None:
            found = symbol_by_name(named)
            kind = None if found is Request else found
        self._classes[name] = kind
        return kind

    def _make(self, kind: type[Request], job: Job) -> None:
        try:
            self._held[job.id] = kind.of_job(self._app, job, hostname=self._hostname())
        except Exception:
            logger.exception(
                "No %s of %s[%s] could be made, and none of its hooks is called.",
                kind.__name__,
                printable(job.task),
                printable(job.task_id),
            )

    def _accept(self, request: Request, runtime: float = 0.0) -> None:
        if request.time_start is None:
            began = time.monotonic() - runtime
            self._call(request, request.on_accepted, os.getpid(), began)

    def _end(self, request: Request, settlement: Settlement) -> None:
        state = settlement.state
        told = json.loads(settlement.document) if settlement.document else {}
        if told.get("give_back"):
            return  # It was never begun, or asked to run later.
        self._accept(request, settlement.runtime)
        if state == "completed":
            shown = settlement.shown or told.get("result")
            self._call(request, request.on_success, (0, shown, settlement.runtime))
            return
        error = self._error(told)
        einfo = ExceptionInfo((type(error), error, None))
        if state == "retryable":
            self._call(request, request.on_retry, einfo)
        else:
            self._call(request, request.on_failure, einfo)

    def _error(self, told: dict[str, Any]) -> BaseException:
        """What a job ended with."""
        if told.get("kind"):
            return exception_named(told["kind"], told.get("message"))
        return WorkerLostError("The job ended without saying why.")

    def _call(self, request: Request, hook: Callable[..., Any], *args: Any) -> None:
        try:
            hook(*args)
        except Exception:
            logger.exception(
                "%s() of the request %s raised, which changes nothing about its task.",
                getattr(hook, "__name__", hook),
                printable(str(request)),
            )
