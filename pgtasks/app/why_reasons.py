"""What the answers to *why does this job not run?* are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pgtasks.utils.text import short_span

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.app.job_info import JobInfo
    from pgtasks.storage.diagnosis import Gate
    from pgtasks.storage.workers import Worker

__all__ = ["Diagnosis", "Question", "Reason", "knows", "shown_moment"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause.

    Attributes:
        code: A word for programs: ``held``, ``no_worker``, ``scheduled`` …
        text: What is the case, as a sentence.
        remedy: What to do about it; empty where there is nothing to do.
        data: The numbers and names of the sentence, for programs.
    """

    code: str
    text: str
    remedy: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a job does not run.

    Attributes:
        job: The job, as it was found.
        reasons: What holds it up, the first cause first.
    """

    job: JobInfo
    reasons: list[Reason]

    @property
    def codes(self) -> list[str]:
        """The words for programs."""
        return [reason.code for reason in self.reasons]

    def as_dict(self) -> dict[str, Any]:
        """It as values of JSON."""
        return {
            "task_id": self.job.task_id,
            "task": self.job.task,
            "queue": self.job.queue,
            "state": self.job.state,
            "reasons": [asdict(reason) for reason in self.reasons],
        }


class Question:
    """A job, and what the checks ask about its surroundings, each at most once.

    Args:
        app: The application.
        job: The job.
    """

    def __init__(self, app: Celery, job: JobInfo) -> None:
        self.app = app
        self.job = job
        self._known: dict[str, Any] = {}

    def ask(self, name: str, query: Callable[[], Any]) -> Any:
        """The answer to a query."""
        if name not in self._known:
            self._known[name] = self.app.database.run(query(), retry=True)
        return self._known[name]

    @property
    def now(self) -> datetime:
        """The database's time."""
        from pgtasks.storage import diagnosis

        return datetime.fromtimestamp(self.ask("now", diagnosis.now), timezone.utc)

    @property
    def alive(self) -> list[Worker]:
        """The workers that are there."""
        from pgtasks.storage import workers

        return [each for each in self.ask("live", workers.live) if not each.lapsed]

    @property
    def serving(self) -> list[Worker]:
        """Those that serve its queue."""
        return [each for each in self.alive if self.job.queue in each.queues]

    @property
    def knowing(self) -> list[Worker]:
        """Those of them that know its task."""
        return [each for each in self.serving if knows(each, self.job.task)]

    @property
    def gates(self) -> list[Gate]:
        """The limits that it must go through; the first may be the one that it waits for."""
        from pgtasks.storage import diagnosis

        gates: list[Gate] = self.ask("gates", lambda: diagnosis.gates(self.job.id))
        return gates


# ── words ───────────────────────────────────────────────────────────────────────────────


def knows(worker: Worker, task: str) -> bool:
    """Whether a worker has a task."""
    # One that does not say which tasks it knows is given the benefit of the doubt.
    told = worker.info.get("tasks")
    return not isinstance(told, list) or task in told


def shown_moment(moment: datetime | None, now: datetime) -> str:
    """How long ago something was, or when it will be, and the moment itself."""
    if moment is None:
        return "at an unknown time"
    seconds = (now - moment).total_seconds()
    span = f"{short_span(seconds)} ago" if seconds >= 0 else f"in {short_span(-seconds)}"
    return f"{span} ({moment:%Y-%m-%d %H:%M:%S} UTC)"
