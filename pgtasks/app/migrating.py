"""Takes the messages that wait in a broker of Celery's, and inserts them as jobs.

A message is acknowledged once its job is committed, never before: whatever dies on the way,
the broker gives the message out again, and its job is recognised by its id.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.app.foreign import Call, Refused, call_of, job_of
from pgtasks.exceptions import ImproperlyConfigured, OperationalError

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.job import NewJob

__all__ = ["BATCH", "Migration", "Tally"]

BATCH = 500
"""Jobs of one transaction."""

LULL = 0.1
"""Seconds without a message after which those that have come are inserted."""

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
        self._batch: list[tuple[NewJob, Any]] = []
        self.tally = Tally()
        self._connection = _connect(app, source)
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
                self.tally.reclaimed = _reclaim(self._app, self._source)
            self._look()
            with ExitStack() as stack:
                stack.callback(connection.release)
                for queue in self._served():
                    stack.enter_context(self._consumer(queue))
                self._drain()
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

    # ── the broker ──────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        """Count what waits, and see which queues there are."""
        for queue in self._queues:
            # A channel is closed by the answer that there is no such queue.
            channel = self._connection.channel()
            try:
                found = _queue(queue)(channel).queue_declare(passive=True)
                self.tally.waiting[queue] = found.message_count
            except self._connection.channel_errors:
                self.tally.missing.append(queue)
            else:
                channel.close()

    def _served(self) -> list[str]:
        """The queues to listen to: RabbitMQ refuses one that it does not have."""
        strict = self._connection.transport.driver_type == "amqp"
        return [
            queue for queue in self._queues if not (strict and queue in self.tally.missing)
        ]

    def _consumer(self, queue: str) -> Any:
        from kombu import Consumer

        return Consumer(
            self._connection.channel(),
            [_queue(queue)],
            on_message=partial(self._take, self._queues[queue]),
            on_decode_error=self._refuse,
            accept=self._app.conf.accept_content,
            auto_declare=False,
        )

    def _drain(self) -> None:
        heard = time.monotonic()
        while not self._is_full():
            try:
                self._connection.drain_events(timeout=min(LULL, self._timeout))
                heard = time.monotonic()
            except TimeoutError:
                self._flush()
                if not self._forever and time.monotonic() - heard >= self._timeout:
                    return
        self._flush()

    def _is_full(self) -> bool:
        return self._limit is not None and self.tally.jobs + len(self._batch) >= self._limit

    # ── messages ────────────────────────────────────────────────────────────────────────

    def _take(self, queue: str, message: Any) -> None:
        if self._is_full():
            return  # What a broker has sent ahead goes back to it.
        try:
            call = self._read(message)
            if self._tasks and call.name not in self._tasks:
                self.tally.passed += 1
                self._progress(1)
                return
            job = job_of(
                self._app, _like_sent(call, message), queue, high_first=self._high_first
            )
        except Refused as refusal:
            self._refuse(message, refusal)
            return
        self._batch.append((job, message))
        if len(self._batch) >= BATCH:
            self._flush()

    def _read(self, message: Any) -> Call:
        try:
            body = message.payload
        except Exception as error:
            raise Refused(f"its body cannot be read: {_short(error)}") from error
        return call_of(message.headers, message.properties, body)

    def _refuse(self, message: Any, error: BaseException) -> None:
        # Not acknowledged, so that it is still there for Celery, or for a second try.
        reason = str(error) if isinstance(error, Refused) else _short(error)
        self.tally.refused[reason] += 1
        self._progress(1)

    # ── jobs ────────────────────────────────────────────────────────────────────────────

    def _flush(self) -> None:
        """Insert what has come, and acknowledge it then."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        # A message may be there twice: given out again after a worker has died.
        jobs = {job.task_id: job for job, _ in batch}
        inserted = set(jobs) if self._rehearse else self._insert(list(jobs.values()))
        for task_id in inserted:
            self.tally.moved[jobs[task_id].task] += 1
        spoilt = self._spoilt
        self.tally.known += sum(job.task_id not in spoilt for job, _ in batch) - len(
            inserted
        )
        if self.acknowledges:
            for job, message in batch:
                if job.task_id not in spoilt:
                    message.ack()
        self._progress(len(batch))

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


def _reclaim(app: Celery, source: str) -> int | None:
    """Have a Redis give out again what workers held that were killed.

    There it would come back only when ``visibility_timeout`` is over, an hour by default.
    What workers that live are running comes back as well, and would run twice.

    Returns:
        How many messages that were; None if the broker is no Redis. Others do this as soon
        as the connection of a worker ends.
    """
    with _connect(app, source, visibility_timeout=0) as connection:
        qos = connection.default_channel.qos
        if not hasattr(qos, "restore_visible"):
            return None
        with qos.channel.conn_or_acquire() as client:
            held = int(client.hlen(qos.unacked_key))
            qos.restore_visible(num=None, interval=1)
            return held - int(client.hlen(qos.unacked_key))


def _connect(app: Celery, source: str, **options: Any) -> Any:
    from kombu import Connection

    options = {**(app.conf.broker_transport_options or {}), **options}
    try:
        connection = Connection(source, transport_options=options)
        connection.transport  # noqa: B018 - imports the client
    except (ImportError, KeyError) as error:
        scheme = source.partition(":")[0]
        raise ImproperlyConfigured(
            f"Messages of {scheme}:// cannot be read: {error}. Install the client that kombu "
            f"needs for it (pip install 'kombu[{scheme}]'), or correct the URL."
        ) from error
    return connection


def _queue(name: str) -> Any:
    from kombu import Queue

    # Nothing is declared: a queue that is there may have been made in another way.
    return Queue(name, no_declare=True)


def _like_sent(call: Call, message: Any) -> Call:
    """The call, with its arguments to be written as they were."""
    from kombu.serialization import registry

    name = registry.type_to_name.get(message.content_type)
    return call._replace(options={**call.options, "serializer": name})


def _short(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".partition("\n")[0]
    return text if len(text) <= 200 else f"{text[:199]}…"
