"""Brokers of Celery's, to take messages out of: by kombu, and of Redis by its own lists.

kombu's Redis takes a message off its list first and notes that it has done so afterwards.
Between the two a process that is killed, or interrupted, has lost it: three of 5,000 in four
kills. So here a message goes by one command from its list to one of ours, and stays there
until its job is committed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pgtasks.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["Arrived", "Broker", "connect", "open_broker", "reclaim"]

LULL = 0.1
"""Seconds without a message after which those that have come are handed over."""

HOLDING = "pgtasks-migrate:"
"""Before the name of a list in Redis: the list of what is being taken over from it."""


class Arrived(NamedTuple):
    """A message that the broker has given out.

    Attributes:
        queue: The queue that it was in.
        message: kombu's; None if it could not even be made.
        error: What is wrong with it.
        receipt: What the broker knows it by.
    """

    queue: str
    message: Any
    error: BaseException | None
    receipt: Any


class Broker(Protocol):
    """What gives out messages.

    Attributes:
        waiting: How many there were in each queue at the beginning.
        missing: Queues that it does not have.
    """

    waiting: dict[str, int]
    missing: list[str]

    def fetch(self, most: int) -> list[Arrived]:
        """So many messages, or what has come within a moment."""

    def acknowledge(self, arrived: Sequence[Arrived]) -> None:
        """Have it forget these."""

    def close(self) -> None:
        """Give back whatever was given out and not acknowledged."""


def connect(app: Celery, url: str, **options: Any) -> Any:
    """A connection of kombu's to a broker, by the application's ``broker_transport_options``.

    Raises:
        ImproperlyConfigured: There is no such broker, or its client is not installed.
    """
    from kombu import Connection

    options = {**(app.conf.broker_transport_options or {}), **options}
    try:
        connection = Connection(url, transport_options=options)
        connection.transport  # noqa: B018 - imports the client
    except (ImportError, KeyError) as error:
        scheme = url.partition(":")[0]
        raise ImproperlyConfigured(
            f"Messages of {scheme}:// cannot be read: {error}. Install the client that kombu "
            f"needs for it (pip install 'kombu[{scheme}]'), or correct the URL."
        ) from error
    return connection


def open_broker(
    connection: Any, queues: Sequence[str], accept: Any, *, keep: bool
) -> Broker:
    """Begin to take messages.

    Args:
        connection: kombu's.
        queues: Where to look.
        accept: Content types that may be read.
        keep: Nothing is going to be acknowledged.
    """
    channel = _redis_channel(connection)
    if channel is not None:
        return _RedisLists(channel, queues, accept, keep=keep)
    return _Consumed(connection, queues, accept)


def _redis_channel(connection: Any) -> Any:
    """The channel to a Redis, by whatever way kombu reaches it; None to any other broker."""
    if connection.transport.driver_type != "redis":
        return None
    from kombu.transport.redis import Channel

    channel = connection.default_channel
    return channel if isinstance(channel, Channel) else None


class _Consumed:
    """Any broker: kombu's consumers."""

    def __init__(self, connection: Any, queues: Sequence[str], accept: Any) -> None:
        self._connection = connection
        self._arrived: list[Arrived] = []
        self._consumers: list[Any] = []
        self.waiting: dict[str, int] = {}
        self.missing: list[str] = []
        for queue in queues:
            self._look(queue)
        # RabbitMQ refuses to serve a queue that it does not have.
        strict = connection.transport.driver_type == "amqp"
        for queue in queues:
            if not (strict and queue in self.missing):
                self._consume(queue, accept)

    def _look(self, queue: str) -> None:
        # A channel is closed by the answer that there is no such queue.
        channel = self._connection.channel()
        try:
            found = _queue(queue)(channel).queue_declare(passive=True)
        except self._connection.channel_errors:
            self.missing.append(queue)
        else:
            self.waiting[queue] = found.message_count
            channel.close()

    def _consume(self, queue: str, accept: Any) -> None:
        from kombu import Consumer

        def take(message: Any, error: BaseException | None = None) -> None:
            self._arrived.append(Arrived(queue, message, error, message))

        consumer = Consumer(
            self._connection.channel(),
            [_queue(queue)],
            on_message=take,
            on_decode_error=take,
            accept=accept,
            auto_declare=False,
        )
        consumer.consume()
        self._consumers.append(consumer)

    def fetch(self, most: int) -> list[Arrived]:
        try:
            while len(self._arrived) < most:
                self._connection.drain_events(timeout=LULL)
        except TimeoutError:
            pass
        found, self._arrived = self._arrived[:most], self._arrived[most:]
        return found

    def acknowledge(self, arrived: Sequence[Arrived]) -> None:
        for each in arrived:
            each.receipt.ack()

    def close(self) -> None:
        # The broker does the rest when the channel closes.
        self._connection.release()


class _RedisLists:
    """Redis: kombu keeps a queue in a list for each step of priority."""

    def __init__(
        self, channel: Any, queues: Sequence[str], accept: Any, *, keep: bool
    ) -> None:
        import redis
        from kombu.serialization import prepare_accept_content

        self._channel = channel
        self._accept = prepare_accept_content(accept)
        self._keep = keep
        # Not kombu's own client, which puts the prefix before some keys and not others.
        self._client: Any = redis.Redis(connection_pool=channel.pool)
        prefix = channel.global_keyprefix or ""
        self._lists = {
            f"{prefix}{channel._q_for_pri(queue, step)}": queue
            for queue in queues
            for step in channel.priority_steps
        }
        self._seen = dict.fromkeys(self._lists, 0)
        if not keep:
            # Somebody was killed here before.
            self._give_back()
        self.waiting: dict[str, int] = dict.fromkeys(queues, 0)
        for key, queue in self._lists.items():
            self.waiting[queue] += int(self._client.llen(key))
        # An empty list is none.
        self.missing = [queue for queue, number in self.waiting.items() if not number]
        for queue in self.missing:
            del self.waiting[queue]

    def fetch(self, most: int) -> list[Arrived]:
        found: list[Arrived] = []
        for key, queue in self._lists.items():
            if len(found) < most:
                taken = self._take(key, most - len(found))
                found += [self._arrived(queue, key, each) for each in taken]
        if not found:
            time.sleep(LULL)
        return found

    def _take(self, key: str, most: int) -> list[bytes]:
        """The next messages of a list; who wants to be served stands at its right end."""
        if self._keep:
            seen = self._seen[key]
            taken: list[bytes] = self._client.lrange(key, -seen - most, -seen - 1)[::-1]
            self._seen[key] = seen + len(taken)
            return taken
        number = min(most, int(self._client.llen(key)))
        with self._client.pipeline(transaction=False) as pipe:
            for _ in range(number):
                pipe.rpoplpush(key, HOLDING + key)
            return [each for each in pipe.execute() if each is not None]

    def _arrived(self, queue: str, key: str, raw: bytes) -> Arrived:
        from kombu.utils.json import loads

        receipt = (key, raw)
        try:
            message = self._channel.message_to_python(loads(raw))
        except Exception as error:
            return Arrived(queue, None, error, receipt)
        message.accept = self._accept
        return Arrived(
            queue, message, message.errors[0][1] if message.errors else None, receipt
        )

    def acknowledge(self, arrived: Sequence[Arrived]) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for key, raw in (each.receipt for each in arrived):
                # What came last stands first there.
                pipe.lrem(HOLDING + key, 1, raw)
            pipe.execute()

    def _give_back(self) -> None:
        """What was taken and not acknowledged is again where it was, in its order."""
        for key in self._lists:
            while raw := self._client.lindex(HOLDING + key, 0):
                with self._client.pipeline(transaction=True) as pipe:
                    pipe.lrem(HOLDING + key, 1, raw)
                    pipe.rpush(key, raw)
                    pipe.execute()

    def close(self) -> None:
        if not self._keep:
            self._give_back()
        self._channel.connection.client.release()


def reclaim(app: Celery, url: str) -> int | None:
    """Have a Redis give out again what workers held that were killed.

    There it would come back only when ``visibility_timeout`` is over, an hour by default.
    What workers that live are running comes back as well, and would run twice.

    Returns:
        How many messages that were; None if the broker is no Redis. Others do this as soon
        as the connection of a worker ends.
    """
    with connect(app, url, visibility_timeout=0) as connection:
        channel = _redis_channel(connection)
        if channel is None:
            return None
        qos = channel.qos
        with channel.conn_or_acquire() as client:
            held = int(client.hlen(qos.unacked_key))
            qos.restore_visible(num=None, interval=1)
            return held - int(client.hlen(qos.unacked_key))


def _queue(name: str) -> Any:
    from kombu import Queue

    # Nothing is declared: a queue that is there may have been made in another way.
    return Queue(name, no_declare=True)
