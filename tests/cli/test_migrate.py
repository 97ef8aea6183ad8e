"""``pgtasks migrate``: messages as Celery sends them, through kombu's transports, into rows."""

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from kombu import Connection, Queue

from pgtasks import Celery
from pgtasks.app.foreign import Refused, call_of

MEMORY = "memory://"


@pytest.fixture
def queue():
    # kombu's memory is one for the whole process.
    return f"moved-{uuid.uuid4().hex[:8]}"


def publish(url, queue, headers, body, *, options=None, **properties):
    with Connection(url, transport_options=options or {}) as connection:
        producer = connection.Producer()
        properties.setdefault("serializer", "json")
        producer.publish(
            body,
            exchange="",
            routing_key=queue,
            headers=headers,
            declare=[Queue(queue, durable=True)],
            **properties,
        )


def message(name="tests.add", args=(1, 2), kwargs=None, *, embed=None, **headers):
    """The headers and the body of a task, in Celery's second protocol."""
    task_id = headers.pop("id", None) or str(uuid.uuid4())
    known = {
        "lang": "py", "task": name, "id": task_id, "shadow": None, "eta": None,
        "expires": None, "group": None, "group_index": None, "retries": 0,
        "timelimit": [None, None], "root_id": task_id, "parent_id": None,
        "argsrepr": repr(args), "kwargsrepr": repr(kwargs or {}), "origin": "gen1@old",
        "ignore_result": False, "replaced_task_nesting": 0, "stamped_headers": None,
        "stamps": {},
    }  # fmt: skip
    none = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return {**known, **headers}, [list(args), kwargs or {}, {**none, **(embed or {})}]


def waiting(url, queue, options=None):
    with Connection(url, transport_options=options or {}) as connection:
        return connection.default_channel.queue_declare(queue, passive=True).message_count


def told(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# ── what a message becomes ──────────────────────────────────────────────────────────────


def test_a_message_becomes_a_job_with_all_that_it_said(run, app, queue):
    later = datetime.now(timezone.utc) + timedelta(hours=2)
    headers, body = message(
        args=(1,), kwargs={"y": 2}, id="the-id", eta=later.isoformat(), retries=3,
        expires=(later + timedelta(days=1)).isoformat(), timelimit=[30, 20],
        root_id="the-root", parent_id="the-parent", group="the-group", group_index=4,
        tenant="acme", stamped_headers=["colour"], stamps={"colour": ["red"]},
        embed={
            "callbacks": [app.signature("tests.add", (5,))],
            "errbacks": [app.signature("tests.oops")],
            "chain": [app.signature("tests.last"), app.signature("tests.next")],
        },
    )  # fmt: skip
    publish(MEMORY, queue, headers, body, priority=3)

    found = told(run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue, "--json"))

    assert found["moved"] == {"tests.add": 1}
    job = app.jobs.get("the-id")
    assert (job.task, job.queue, job.state) == ("tests.add", queue, "scheduled")
    assert (job.args, job.kwargs, job.retries, job.priority) == ([1], {"y": 2}, 3, 3)
    assert abs(job.scheduled_at - later) < timedelta(seconds=1)
    assert abs(job.expires_at - later - timedelta(days=1)) < timedelta(seconds=1)
    assert (job.time_limit, job.soft_time_limit) == (30, 20)
    assert (job.root_id, job.parent_id) == ("the-root", "the-parent")
    assert (job.group_id, job.group_index, job.origin) == ("the-group", 4, "gen1@old")
    assert job.next == ["tests.next", "tests.last", "tests.add"]
    assert job.on_error == ["tests.oops"]


def test_the_first_protocol_is_understood(run, app, queue):
    body = {
        "task": "tests.add", "id": "old", "args": [1], "kwargs": {"y": 2}, "retries": 1,
        "eta": None, "expires": None, "utc": True, "callbacks": None, "errbacks": None,
        "timelimit": [None, None], "taskset": None, "chord": None,
    }  # fmt: skip
    publish(MEMORY, queue, {}, body)
    run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue)

    job = app.jobs.get("old")
    assert (job.args, job.kwargs, job.retries) == ([1], {"y": 2}, 1)


def test_headers_of_the_callers_own_and_stamps_are_kept():
    call = call_of(
        *message(tenant="acme", stamped_headers=["c"], stamps={"c": 1})[:1],
        {},
        [[], {}, {}],
    )

    assert call.options["headers"] == {"tenant": "acme"}
    assert (call.options["stamped_headers"], call.options["c"]) == (["c"], 1)


@pytest.mark.parametrize(
    ("source", "order", "given", "priority"),
    [
        ("redis", "low_first", 2, 2),
        ("amqp", "low_first", 2, 7),
        ("amqp", "high_first", 2, 2),
        ("redis", "high_first", 2, 7),
        ("amqp", "low_first", 200, 0),
    ],
)
def test_what_was_urgent_stays_urgent(app, source, order, given, priority):
    from pgtasks.app.foreign import job_of

    app.conf.task_priority_order = order
    headers, body = message()
    call = call_of(headers, {"priority": given}, body)
    job = job_of(app, call, "mail", high_first=source == "amqp")

    shown = 9 - job.priority if order == "high_first" else job.priority
    assert shown == priority


def test_arguments_stay_in_their_serializer(run, app, queue):
    app.conf.accept_content = ["json", "pickle"]
    headers, body = message(args=({1, 2},), id="pickled")
    publish(MEMORY, queue, headers, body, serializer="pickle")
    run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue)

    assert app.jobs.get("pickled").content_type == "application/x-python-serialize"


def test_compressed_messages_are_read(run, app, queue):
    headers, body = message(id="small")
    publish(MEMORY, queue, headers, body, compression="gzip")
    run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue)

    assert app.jobs.get("small").args == [1, 2]


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        ({}, {"method": "ping"}, "no task of Celery's"),
        ({}, [1, 2], "no task of Celery's"),
        ({"task": "x"}, [[], {}, {}], "KeyError: 'id'"),
        ({"task": "x", "id": "1"}, [[]], "cannot be read"),
        ({"task": "x", "id": "1"}, [[], {}, {"chord": {"task": "y"}}], "chord"),
        ({"task": "celery.chord_unlock", "id": "1"}, [[], {}, {}], "chord"),
    ],
)
def test_what_is_no_job_is_refused(headers, body, why):
    with pytest.raises(Refused, match=why):
        call_of(headers, {}, body)


# ── the command ─────────────────────────────────────────────────────────────────────────


def test_what_is_refused_or_not_asked_for_stays_in_the_broker(run, app, queue, tmp_path):
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
    app.conf.broker_transport_options = options
    url = "filesystem://"
    for name in ("tests.add", "tests.other"):
        publish(url, queue, *message(name), options=options)
    publish(url, queue, {}, {"method": "ping"}, options=options)
    result = run("migrate", "-t", "0.2", url, "-a", "-Q", queue, "-T", "tests.add")

    assert result.exit_code == 0, result.output
    assert "1 job inserted, 1 of other tasks left." in result.stdout
    assert "Left 1 message where it is: it is no task of Celery's." in result.stderr
    assert app.jobs.count() == 1
    assert waiting(url, queue, options) == 2


def test_without_acknowledging_it_is_a_copy_and_a_second_time_changes_nothing(
    run, app, queue, tmp_path
):
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
    app.conf.broker_transport_options = options
    for _ in range(3):
        publish("filesystem://", queue, *message(), options=options)
    first = run("migrate", "filesystem://", "-Q", f"{queue}:mail")
    again = run("migrate", "filesystem://", "-Q", f"{queue}:mail")

    assert "3 jobs inserted." in first.stdout
    assert "They are in the broker as well (-a takes them out)" in first.stderr
    assert "0 jobs inserted, 3 known already." in again.stdout
    assert waiting("filesystem://", queue, options) == 3
    assert app.jobs.count(queue="mail") == 3


def test_what_is_over_does_not_run_again(run, app, queue):
    headers, body = message(id="over")
    app.send_task("tests.add", (1, 2), task_id="over")
    app.jobs.cancel("over")
    publish(MEMORY, queue, headers, body)
    result = run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue)

    assert "0 jobs inserted, 1 known already." in result.stdout
    assert waiting(MEMORY, queue) == 0
    assert app.jobs.get("over").state == "cancelled"


def test_a_message_that_is_there_twice_is_one_job(run, app, queue):
    headers, body = message(id="twice")
    publish(MEMORY, queue, headers, body)
    publish(MEMORY, queue, headers, body)

    assert (
        "1 job inserted, 1 known already."
        in run("migrate", "-t", "0.2", MEMORY, "-Q", queue).stdout
    )


def test_one_that_cannot_be_stored_costs_the_others_nothing(run, app, queue):
    bad = message(group="a\x00b")  # which no text of PostgreSQL can hold
    for headers, body in (message(), bad, message()):
        publish(MEMORY, queue, headers, body)
    found = told(run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue, "--json"))

    assert found["moved"] == {"tests.add": 2}
    [(why, number)] = found["refused"].items()
    assert (why.partition(":")[0], number) == ("it cannot be stored", 1)


def test_no_more_are_taken_than_was_said(run, app, queue):
    for _ in range(5):
        publish(MEMORY, queue, *message())
    run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue, "-n", "2")

    assert app.jobs.count() == 2


def test_a_rehearsal_changes_nothing(run, app, queue, tmp_path):
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
    app.conf.broker_transport_options = options
    publish("filesystem://", queue, *message(), options=options)
    found = told(run("migrate", "filesystem://", "-a", "-Q", queue, "--dry-run", "--json"))

    assert found["moved"] == {"tests.add": 1}
    assert found["waiting"] == {queue: 1}
    assert app.jobs.count() == 0
    assert waiting("filesystem://", queue, options) == 1


def test_the_destination_may_be_named(run, database_url, queue):
    publish(MEMORY, queue, *message(id="there"))
    elsewhere = Celery("elsewhere", broker="redis://nowhere/0", set_as_current=False)
    with elsewhere:
        moved = run(
            "migrate", "-t", "0.2", MEMORY, database_url, "-a", "-Q", queue, app=elsewhere
        )

        assert moved.exit_code == 0, moved.output
        assert elsewhere.jobs.get("there").queue == queue


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["postgresql://here/x"], "SOURCE is the broker that Celery has used"),
        (["here"], "write a URL"),
        ([MEMORY, "redis://here"], "DESTINATION is the PostgreSQL database"),
    ],
)
def test_urls_are_looked_at_first(run, words, why):
    refused = run("migrate", *words)

    assert refused.exit_code == 2
    assert why in refused.stderr


def test_a_broker_that_does_not_answer_is_unavailable(run):
    refused = run("migrate", "-t", "0.2", "amqp://guest@127.0.0.1:1//")

    assert refused.exit_code == 69, refused.output
    assert "The broker amqp://guest:**@127.0.0.1:1// does not answer" in refused.stderr


def test_a_transport_that_nobody_knows_is_a_wrong_configuration(run):
    refused = run("migrate", "-t", "0.2", "pigeon://here")

    assert refused.exit_code == 78
    assert "Messages of pigeon:// cannot be read" in refused.stderr


# ── Redis ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def redis_server(app):
    """A Redis that is there anyway, with keys of our own."""
    redis = pytest.importorskip("redis")
    url = os.environ.get("PGTASKS_TEST_REDIS", "redis://127.0.0.1:6379/9")
    client = redis.Redis.from_url(url)
    try:
        client.ping()
    except redis.RedisError:
        pytest.skip(f"there is no Redis at {url}")
    options = {"global_keyprefix": f"pgtasks-{uuid.uuid4().hex[:8]}:"}
    app.conf.broker_transport_options = options
    yield url, options
    for key in client.scan_iter(f"{options['global_keyprefix']}*"):
        client.delete(key)
    client.close()


def test_a_redis_is_emptied(run, app, queue, redis_server):
    url, options = redis_server
    for number in range(20):
        publish(
            url, queue, *message(args=(number, 1)), options=options, priority=number % 10
        )
    found = told(run("migrate", "-t", "0.2", url, "-a", "-Q", queue, "--json"))

    assert found["moved"] == {"tests.add": 20}
    assert app.jobs.count(by="priority") == dict.fromkeys(range(10), 2)
    again = told(run("migrate", "-t", "0.2", url, "-a", "-Q", queue, "--json"))
    assert again["missing"] == [queue]


def test_what_is_not_taken_over_is_again_where_it_was(run, app, queue, redis_server):
    url, options = redis_server
    for number in range(6):
        name = "tests.add" if number % 2 else "tests.other"
        publish(url, queue, *message(name, id=f"n{number}"), options=options)
    run("migrate", "-t", "0.2", url, "-a", "-Q", queue, "-T", "tests.add")

    assert app.jobs.count() == 3
    with Connection(url, transport_options=options) as connection:
        found = [Queue(queue)(connection.default_channel).get() for _ in range(4)]
    assert [each and each.headers["id"] for each in found] == ["n0", "n2", "n4", None]


def test_what_a_killed_migration_held_is_taken_over_by_the_next(
    run, app, queue, redis_server
):
    import redis

    url, options = redis_server
    for number in range(2):
        publish(url, queue, *message(id=f"n{number}"), options=options)
    key = f"{options['global_keyprefix']}{queue}"
    with redis.Redis.from_url(url) as client:
        client.rpoplpush(key, f"pgtasks-migrate:{key}")
        found = told(run("migrate", "-t", "0.2", url, "-a", "-Q", queue, "--json"))

        assert found["moved"] == {"tests.add": 2}
        assert client.exists(key, f"pgtasks-migrate:{key}") == 0


def test_a_copy_of_a_redis_leaves_it_as_it_was(run, app, queue, redis_server):
    import redis

    url, options = redis_server
    for _ in range(3):
        publish(url, queue, *message(), options=options)
    found = told(run("migrate", "-t", "0.2", url, "-Q", queue, "--json"))

    assert found["moved"] == {"tests.add": 3}
    with redis.Redis.from_url(url) as client:
        assert client.llen(f"{options['global_keyprefix']}{queue}") == 3


def test_what_killed_workers_held_is_taken_over_too(run, app, queue, redis_server):
    url, options = redis_server
    publish(url, queue, *message(id="held"), options=options)
    connection = Connection(url, transport_options=options)
    channel = connection.channel()
    held = Queue(queue, no_declare=True)(channel).get(no_ack=False)
    assert held is not None
    channel.do_restore = False  # it is killed, and gives nothing back
    connection.close()

    assert (
        told(run("migrate", "-t", "0.2", url, "-a", "-Q", queue, "--json"))["moved"] == {}
    )
    found = told(
        run("migrate", "-t", "0.2", url, "-a", "-Q", queue, "--unacknowledged", "--json")
    )

    assert (found["moved"], found["reclaimed"]) == ({"tests.add": 1}, 1)
    assert app.jobs.get("held").args == [1, 2]


def test_other_brokers_have_no_use_for_that(run, app, queue):
    publish(MEMORY, queue, *message())
    moved = run("migrate", "-t", "0.2", MEMORY, "-a", "-Q", queue, "--unacknowledged")

    assert "--unacknowledged is of no use here" in moved.stderr
    assert "1 job inserted." in moved.stdout


# ── RabbitMQ ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rabbit(queue):
    url = os.environ.get("PGTASKS_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672//")
    connection = Connection(url, connect_timeout=2)
    try:
        connection.connect()
    except OSError:
        pytest.skip(f"there is no RabbitMQ at {connection.as_uri()}")
    yield url
    connection.default_channel.queue_delete(queue)
    connection.close()


def test_a_rabbitmq_is_emptied(run, app, queue, rabbit):
    for number in range(5):
        publish(rabbit, queue, *message(args=(number, 1)))
    words = ["migrate", "-t", "0.5", rabbit, "-a", "-Q", f"{queue},no-such-queue"]
    found = told(run(*words, "--unacknowledged", "--json"))

    assert (found["moved"], found["missing"]) == ({"tests.add": 5}, ["no-such-queue"])
    assert found["waiting"] == {queue: 5}
    assert waiting(rabbit, queue) == 0
