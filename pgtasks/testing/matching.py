"""Which jobs a test means, and what it is told when there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any

from pgtasks.testing.jobs import Enqueued
from pgtasks.utils.saferepr import saferepr
from pgtasks.utils.time import maybe_make_aware

__all__ = ["Wanted", "report"]

#: Seconds that a date may differ by: between the test's clock and the job's some code runs.
DELTA = 1.0

#: Jobs that a message lists.
LISTED = 20


@dataclass(frozen=True)
class Wanted:
    """What a test says of the jobs that it means; None says nothing."""

    task: str | None = None
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    queue: str | None = None
    priority: int | None = None
    tags: Iterable[str] | str | None = None
    meta: Mapping[str, Any] | None = None
    scheduled_at: Any = None
    state: str | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    task_id: str | None = None

    def said(self) -> dict[str, Any]:
        """What the test has said."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in given.items() if value is not None}

    def differences(self, job: Enqueued) -> list[str]:
        """The names of what is otherwise with ``job``; none if it is meant."""
        return [
            name
            for name, value in self.said().items()
            if not _AGREES.get(name, _equals)(value, getattr(job, name))
        ]


def _equals(wanted: Any, found: Any) -> bool:
    return bool(wanted == found)


def _contains(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is in what is found, however deep."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and _contains(value, found[key])
            for key, value in _with_text_keys(wanted, found).items()
        )
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(wanted) == len(found)
            and all(map(_contains, wanted, found))
        )
    return _equals(wanted, found)


def _with_text_keys(wanted: Mapping[Any, Any], found: Mapping[Any, Any]) -> dict[Any, Any]:
    # JSON has made texts of the keys that were sent.
    return {
        key if key in found or isinstance(key, str) else str(key): value
        for key, value in wanted.items()
    }


def _has_labels(wanted: Any, found: list[str]) -> bool:
    return set([wanted] if isinstance(wanted, str) else wanted) <= set(found)


def _is_about(wanted: Any, found: datetime) -> bool:
    """Whether a date is near another, or near so long from now."""
    delta: Any = DELTA
    if isinstance(wanted, (tuple, list)):
        wanted, delta = wanted
    if isinstance(delta, timedelta):
        delta = delta.total_seconds()
    if isinstance(wanted, timedelta):
        wanted = datetime.now(timezone.utc) + wanted
    return bool(abs((maybe_make_aware(wanted) - found).total_seconds()) <= delta)


_AGREES = {
    "args": _contains,
    "kwargs": _contains,
    "meta": _contains,
    "tags": _has_labels,
    "scheduled_at": _is_about,
}


# ── what it says ────────────────────────────────────────────────────────────────────────


def report(said: str, wanted: Wanted, jobs: Sequence[Enqueued]) -> str:
    """The message of an assertion that failed.

    Args:
        said: What is wrong.
        wanted: What the test has asked for.
        jobs: The jobs that are enqueued.
    """
    lines = [said, ""]
    lines += [
        f"    {name} = {saferepr(value, 500)}" for name, value in wanted.said().items()
    ]
    if not wanted.said():
        lines += ["    (any job)"]
    if not jobs:
        return "\n".join([*lines, "", "Nothing is enqueued."])
    differing = [(wanted.differences(job), job) for job in jobs]
    # What comes near first: that is where the mistake is.
    differing.sort(key=lambda each: ("task" in each[0], len(each[0])))
    number = len(jobs)
    lines += ["", f"{'One job is' if number == 1 else f'{number} jobs are'} enqueued:", ""]
    lines += [f"    {_line(job, names)}" for names, job in differing[:LISTED]]
    if number > LISTED:
        lines += [f"    … and {number - LISTED} more"]
    return "\n".join(lines)


def _line(job: Enqueued, differs: list[str]) -> str:
    call = "arguments that cannot be read"
    if job.args is not None and job.kwargs is not None:
        shown = [saferepr(each, 200) for each in job.args]
        shown += [f"{name}={saferepr(value, 200)}" for name, value in job.kwargs.items()]
        call = ", ".join(shown)
    parts = [f"{job.task}({call})", f"queue={job.queue}", _when(job)]
    parts += [f"priority={job.priority}"] if job.priority else []
    parts += [f"tags={job.tags}"] if job.tags else []
    parts += [f"meta={saferepr(job.meta, 200)}"] if job.meta else []
    line = "  ".join(parts)
    return f"{line}  ← other {', '.join(differs)}" if differs else line


def _when(job: Enqueued) -> str:
    if job.state in ("scheduled", "retryable"):
        return f"{job.state} at {job.scheduled_at.isoformat(timespec='seconds')}"
    return job.state
