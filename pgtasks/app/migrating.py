"""Takes the messages that wait in a broker of Celery's, and inserts them as jobs.

A message is acknowledged once its job is committed, never before: whatever dies on the way,
the broker gives the message out again, and its job is recognised by its id.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgtasks.app.brokers import Arrived, Broker, connect, open_broker, reclaim
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.foreign import Call, Refused, call_of, job_of
from pgtasks.exceptions import ImproperlyConfigured, OperationalError

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.job import NewJob

__all__ = ["BATCH", "Migration", "Tally"]

BATCH = 500
"""Jobs of one transaction."""

_PRIORITIES_OF_AMQP = ("amqp", "qpid")


@dataclass
class Tally:
    """What has become of the messages.

    Attributes:
        waiting: How many the broker said there were in each queue, at the beginning.
        missing: Queues that the broker does not have; on Redis, empty ones too.
        moved: Jobs that were inserted, by task.
        known: Messages whose jobs were there already, waiting, running or over.
        passed: Messages of tasks that were not asked for.
        refused: Messages that are no jobs, or cannot be here, by the reason.
        reclaimed: Messages that a Redis gives out again; None if it was not asked to.
    """

    waiting: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    moved: Counter[str] = field(default_factory=Counter)
    known: int = 0
    passed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reclaimed: int | None = None

    @property
    def jobs(self) -> int:
        """How many jobs were inserted."""
        return sum(self.moved.values())


class Migration:
    """Moves, or copies, what waits in a broker.

    Args:
        app: The application whose database it goes to. Its settings say what is read
            (``accept_content``) and how the broker is to be talked to
            (``broker_transport_options``).
        source: URL of the broker, in kombu's words.
        queues: Where to look, and the name of the queue here for each.
        tasks: Only tasks of these names; all by default.
        limit: Take no more jobs than that.
        timeout: Stop after so many seconds without a message.
        acknowledge: Have the broker forget what was inserted. Otherwise it gives all of it
            out again when this ends: a copy.
        forever: Do not stop for want of messages.
        unacknowledged: Of a Redis: also what workers held that were killed. It would come
            back by itself when its ``visibility_timeout`` is over.
        rehearse: Insert and acknowledge nothing, only count.

    Attributes:
        tally: What has become of the messages.
        acknowledges: Whether the broker forgets them.
    """

    def __init__(
        self,
        app: Celery,
        source: str,
        *,
        queues: Mapping[str, str],
        tasks: Collection[str] = (),
        limit: int | None = None,
        timeout: float = 1.0,
        acknowledge: bool = False,
        forever: bool = False,
        unacknowledged: bool = False,
        rehearse: bool = False,
    ) -> None:
        if keeps_jobs_in_memory(app):
            raise ImproperlyConfigured(
                "broker_url is 'memory://', so there is no database to move jobs to. Name "
                "it: pgtasks migrate SOURCE postgresql://user@host/name"
            )
        self._app = app
        self._source = source
        self._queues = dict(queues)
        self._tasks = frozenset(tasks)
        self._limit = limit
        self._timeout = timeout
        self.acknowledges = acknowledge and not rehearse
        self._forever = forever
        self._unacknowledged = unacknowledged and not rehearse
        self._rehearse = rehearse
        self._progress: Callable[[int], None] = lambda more: None
        self.tally = Tally()
        self._connection = connect(app, source)
        scheme = source.partition(":")[0].partition("+")[0]
        # Redis and its kin run the small numbers first, RabbitMQ the large ones.
        self._high_first = scheme.endswith(_PRIORITIES_OF_AMQP) or scheme == "amqps"

    def on_progress(self, tell: Callable[[int], None]) -> None:
        """Have ``tell`` called with how many more messages have been dealt with."""
        self._progress = tell

    def run(self) -> Tally:
        """Take over what there is.

        Raises:
            OperationalError: The broker does not answer, or no longer.
        """
        connection = self._connection
        errors = (*connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=10.0)
            if self._unacknowledged:
                self.tally.reclaimed = reclaim(self._app, self._source)
            broker = open_broker(
                connection,
                list(self._queues),
                self._app.conf.accept_content,
                keep=not self.acknowledges,
            )
            self.tally.waiting, self.tally.missing = broker.waiting, broker.missing
            with closing(broker):
                self._drain(broker)
        except OSError as error:
            raise self._unreachable(error) from error
        except Exception as error:
            if isinstance(error, errors) or type(error).__module__.startswith("kombu."):
                raise self._unreachable(error) from error
            raise
        return self.tally

    def _unreachable(self, error: BaseException) -> Exception:
        lost: Exception = OperationalError(
            f"The broker {self._connection.as_uri()} does not answer: "
            f"{error or type(error).__name__}. Start it, or correct the URL; what has been "
            f"taken over is recognised when this runs again."
        )
        return lost

    def _drain(self, broker: Broker) -> None:
        heard = time.monotonic()
        while room := self._room():
            arrived = broker.fetch(min(BATCH, room))
            if arrived:
                self._take(broker, arrived)
                heard = time.monotonic()
            elif not self._forever and time.monotonic() - heard >= self._timeout:
                return

    def _room(self) -> int:
        return BATCH if self._limit is None else self._limit - self.tally.jobs

    # ── messages ────────────────────────────────────────────────────────────────────────

    def _take(self, broker: Broker, arrived: Sequence[Arrived]) -> None:
        """Insert what has come, and acknowledge it then."""
        batch = [(job, each) for each in arrived if (job := self._job_of(each)) is not None]
        # A message may be there twice: given out again after a worker has died.
        jobs = {job.task_id: job for job, _ in batch}
        insert = self._unknown if self._rehearse else self._insert
        inserted = insert(list(jobs.values()))
        for task_id in inserted:
            self.tally.moved[jobs[task_id].task] += 1
        stored = [each for job, each in batch if job.task_id not in self._spoilt]
        self.tally.known += len(stored) - len(inserted)
        if self.acknowledges:
            broker.acknowledge(stored)
        self._progress(len(arrived))

    def _job_of(self, arrived: Arrived) -> NewJob | None:
        """The job that a message stands for; None if it is left where it is."""
        try:
            call = self._read(arrived)
            if self._tasks and call.name not in self._tasks:
                self.tally.passed += 1
                return None
            return job_of(
                self._app,
                _like_sent(call, arrived.message),
                self._queues[arrived.queue],
                high_first=self._high_first,
            )
        except Refused as refusal:
            # Not acknowledged, so that it is still there for Celery, or for a second try.
            self.tally.refused[str(refusal)] += 1
            return None

    def _read(self, arrived: Arrived) -> Call:
        message = arrived.message
        try:
            if arrived.error is not None:
                raise arrived.error
            body = message.payload
        except Exception as error:
            raise Refused(f"its body cannot be read: {_short(error)}") from error
        return call_of(message.headers, message.properties, body)

    # ── jobs ────────────────────────────────────────────────────────────────────────────

    def _unknown(self, jobs: list[NewJob]) -> set[str]:
        """Which of these would be inserted."""
        from pgtasks.storage import results

        ids = [job.task_id for job in jobs]
        return set(ids) - self._app.database.run(results.read(ids)).keys()

    _spoilt: frozenset[str] = frozenset()
    """Ids of the last batch that could not be stored."""

    def _insert(self, jobs: list[NewJob]) -> set[str]:
        """Insert jobs, unless they are there or were there; the answer is which were not."""
        from pgtasks.storage.errors import BadData

        self._spoilt = frozenset()
        try:
            return self._insert_all(jobs)
        except BadData:
            pass
        # One that cannot be stored must not keep the others from it.
        done: set[str] = set()
        for job in jobs:
            try:
                done |= self._insert_all([job])
            except BadData as error:
                self._spoilt |= {job.task_id}
                self.tally.refused[f"it cannot be stored: {_short(error)}"] += 1
        return done

    def _insert_all(self, jobs: list[NewJob]) -> set[str]:
        from pgtasks.storage.jobs import insert

        # As if it were a second try: what is over is not to be run again.
        answers = self._app.database.run(insert(jobs, again=True), retry=True)
        return {each.task_id for each in answers if not each.conflict}


def _like_sent(call: Call, message: Any) -> Call:
    """The call, with its arguments to be written as they were."""
    from kombu.serialization import registry

    name = registry.type_to_name.get(message.content_type)
    return call._replace(options={**call.options, "serializer": name})


def _short(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    return text if len(text) <= 200 else f"{text[:199]}…"
