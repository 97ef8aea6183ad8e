"""What programs ask of the broker is answered of the database."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.app.broker import Connection, Producer
from pgtasks.exceptions import OperationalError
from pgtasks.storage import workers

NOWHERE = "postgresql://u:secret@127.0.0.1:1/none?connect_timeout=2"


@pytest.fixture
def nowhere() -> Any:
    """An application whose database is away."""
    with Celery("nowhere", broker=NOWHERE, set_as_current=False) as app:
        yield app


# ── is it there? ────────────────────────────────────────────────────────────────────────


def test_a_database_that_answers_is_a_good_connection(each_app: Celery) -> None:
    with each_app.connection_for_write() as connection:
        assert connection.ensure_connection(max_retries=1) is connection
        assert connection.connected

    assert not connection.connected
    assert connection.connect().connected


def test_a_database_that_is_away_is_kombus_error(nowhere: Celery) -> None:
    connection = nowhere.connection()

    with pytest.raises(OperationalError):
        connection.ensure_connection(max_retries=0)
    with pytest.raises(connection.recoverable_connection_errors):
        connection.connect()
    assert not connection.connected


def test_it_is_tried_again_as_often_as_was_asked_for(nowhere: Celery) -> None:
    told: list[float] = []
    between: list[None] = []

    with pytest.raises(OperationalError):
        nowhere.connection().ensure_connection(
            lambda error, seconds: told.append(seconds),
            max_retries=2,
            interval_start=0.001,
            interval_step=0.001,
            interval_max=0.0015,
            callback=lambda: between.append(None),
        )

    assert told == [0.001, 0.0015]
    assert len(between) == 2


def test_waiting_for_it_ends_in_time(nowhere: Celery) -> None:
    with pytest.raises(OperationalError):
        nowhere.connection().ensure_connection(interval_start=60, timeout=1)


def test_the_url_is_shown_without_its_password(nowhere: Celery) -> None:
    connection = nowhere.connection_for_read("amqp://elsewhere")

    assert connection.as_uri() == NOWHERE.replace("secret", "**")
    assert connection.as_uri(include_password=True) == NOWHERE
    assert "secret" not in repr(connection)
    assert connection.transport.driver_type == "postgresql"


def test_in_memory_the_url_is_kombus(memory_app: Celery) -> None:
    assert memory_app.connection().as_uri() == "memory://localhost//"
    assert memory_app.connection().transport_cls == "memory"


# ── how much waits in it? ───────────────────────────────────────────────────────────────


def test_a_declared_queue_tells_what_waits_in_it(each_app: Celery) -> None:
    channel = each_app.connection().default_channel
    each_app.send_task("one", queue="mail")
    each_app.send_task("two", queue="mail")
    each_app.send_task("late", queue="mail", countdown=1000)
    each_app.send_task("other", queue="post")

    declared = channel.queue_declare(queue="mail", passive=True)

    assert (declared.queue, declared.message_count) == ("mail", 2)
    assert channel.queue_declare("nobody").message_count == 0

    assert channel.queue_purge("mail") == 3
    assert channel.queue_declare("mail").message_count == 0
    assert channel.queue_declare("post").message_count == 1


def test_workers_that_serve_a_queue_are_its_consumers(postgres_app: Celery) -> None:
    postgres_app.database.run(
        workers.register(
            id=str(uuid.uuid4()), name="w@h", hostname="h", pid=1, machine="m",
            process_started=1.0, begun_file=None, lease=30.0, queues=["mail"],
            pool="solo", concurrency=1, version="0", info={},
        )
    )  # fmt: skip

    with postgres_app.connection() as connection, connection.channel() as channel:
        assert channel.queue_declare("mail", passive=True).consumer_count == 1
        assert channel.queue_declare("post", passive=True).consumer_count == 0


# ── pools and producers ─────────────────────────────────────────────────────────────────


def test_a_connection_that_was_given_is_used(memory_app: Celery) -> None:
    given = object()

    with memory_app.connection_or_acquire(given) as connection:
        assert connection is given
    with memory_app.connection_or_acquire() as connection:
        assert isinstance(connection, Connection)
    with memory_app.pool.acquire(block=True) as connection:
        assert connection.clone().connected
    memory_app.pool.force_close_all()


def test_a_task_can_be_sent_on_what_stands_for_the_broker(each_app: Celery) -> None:
    @each_app.task
    def add(x: int, y: int) -> None: ...

    with each_app.producer_or_acquire() as producer:
        add.apply_async((1, 2), producer=producer)
        with each_app.producer_or_acquire(producer) as same:
            assert same is producer
    with each_app.producer_pool.acquire() as producer:
        assert isinstance(producer, Producer)
        add.apply_async((1, 2), connection=producer.connection)
    with each_app.pool.acquire() as connection:
        each_app.send_task(add.name, (1, 2), connection=connection)

    with each_app.connection() as connection:
        assert connection.default_channel.queue_declare("celery").message_count == 3


@pytest.mark.parametrize("what", ["SimpleQueue", "drain_events", "heartbeat_check"])
def test_messages_are_not_to_be_had_and_it_is_said_why(
    memory_app: Celery, what: str
) -> None:
    with pytest.raises(AttributeError, match=r"no broker.*queue_declare.*send_task"):
        getattr(memory_app.connection(), what)
    with pytest.raises(AttributeError, match="no broker"):
        memory_app.producer_pool.acquire().publish({})
