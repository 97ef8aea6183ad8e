"""A claimed row as the task sees it: its arguments, and the request."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any

from pgtasks import serialization
from pgtasks.app import embed, values
from pgtasks.app.connection import runs_high_priority_first
from pgtasks.app.priority import shown
from pgtasks.exceptions import PayloadTooLarge
from pgtasks.job import Job

__all__ = ["Reader", "reader"]


def reader(app: Any) -> Reader:
    """The reader of ``app``'s jobs."""
    own: Reader | None = app.__dict__.get("_reader")
    if own is None or own.conf is not app.conf:
        own = app.__dict__["_reader"] = Reader(app)
    return own


class Reader:
    """Reads rows by the settings of one app, which are read once per change.

    Args:
        app: The application.
    """

    accept: Collection[str]

    def __init__(self, app: Any) -> None:
        self.app = app
        self.conf = app.conf
        self._read_settings()
        app.conf.bind_to(self._settings_changed)

    def _settings_changed(self, changed: Any) -> None:
        self._read_settings()

    def _read_settings(self) -> None:
        self.accept = values.accepted(self.conf.accept_content)
        self.high_first = runs_high_priority_first(self.app)
        self.most = self.conf.task_body_max_size

    def arguments(self, job: Job) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of ``job``.

        Raises:
            DecodeError: They cannot be read.
            ContentDisallowed: The settings do not allow to read them.
            SecurityError: They are signed, but not by anybody known, or not for this job.
            PayloadTooLarge: They are so large that they were left in the table.
        """
        if self.most and job.size > self.most:
            raise PayloadTooLarge(
                f"The arguments or headers of {job.task}[{job.task_id}] take {job.size:,} "
                f"bytes, more than task_body_max_size = {self.most:,}, and were not read."
            )
        return serialization.load_arguments(
            job.args,
            job.kwargs,
            job.body,
            job.content_type,
            job.content_encoding,
            self.accept,
            self.most,
            embed.seal(job.task, job.task_id, job.embed)
            if serialization.is_signed(job.content_type)
            else None,
        )

    def request(self, job: Job, hostname: str | None) -> dict[str, Any]:
        """What ``task.request`` is made of, but for the arguments.

        Raises:
            DecodeError: The headers or callbacks cannot be read.
        """
        request: dict[str, Any] = {"headers": None}
        properties: dict[str, Any] = {"correlation_id": job.task_id, "reply_to": ""}
        if job.headers is not None:
            self._add_headers(request, properties, serialization.loads(job.headers))
        if job.embed is not None:
            request.update(embed.read(job.embed))
        hard, soft = job.time_limit, job.soft_time_limit
        request.update(
            lang="py",
            task=job.task,
            id=job.task_id,
            correlation_id=properties["correlation_id"],
            retries=job.retries,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            job_id=job.id,
            root_id=job.root_id or job.task_id,
            parent_id=job.parent_id,
            group=job.group_id,
            group_index=job.group_index,
            taskset=job.group_id,
            origin=job.origin,
            hostname=hostname,
            timelimit=[hard, soft],
            utc=True,
            is_eager=False,
            properties=properties,
            delivery_info={
                "exchange": "",
                "routing_key": job.queue,
                "priority": shown(job.priority, high_first=self.high_first),
                "redelivered": bool(
                    job.crashes or job.lost or job.attempt > job.retries + 1
                ),
            },
        )
        if job.meta is not None:
            request["meta"] = serialization.loads(job.meta)
        if job.tags is not None:
            request["tags"] = job.tags
        if job.ignore_result is not None:
            request["ignore_result"] = job.ignore_result
        if job.scheduled_at > job.inserted_at:
            request["eta"] = _iso(job.scheduled_at)
        if job.expires_at is not None:
            request["expires"] = _iso(job.expires_at)
        return request

    def _add_headers(
        self, request: dict[str, Any], properties: dict[str, Any], found: dict[str, Any]
    ) -> None:
        custom = found.pop("headers", None) or {}
        properties.update(found.pop("properties", None) or {})
        if "correlation_id" in found:
            properties["correlation_id"] = found.pop("correlation_id")
        if "reply_to" in found:
            request["reply_to"] = properties["reply_to"] = found.pop("reply_to")
        # The caller's first: they cannot take the place of what follows. A header called
        # "headers" is what Celery's integrations put theirs into, to survive a retry.
        request.update(custom)
        request["headers"] = custom.get("headers", custom) or None
        request.update(found)


def _iso(epoch: float) -> str | None:
    try:
        return datetime.fromtimestamp(epoch, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return None  # A row may hold a date that no datetime can (R4).
