"""What settings change in a program that sends tasks, each seen from outside."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from kombu import Queue

from pgtasks import Celery, states
from pgtasks.app import publish
from pgtasks.app.memory import queue_of
from pgtasks.app.trace import execute
from pgtasks.exceptions import (
    AlwaysEagerIgnored,
    ContentDisallowed,
    OperationalError,
    PayloadTooLarge,
    QueueNotFound,
)
from pgtasks.storage import workers

Make = Callable[..., Celery]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("CELERY_", "PGTASKS_"))]:
        if name.endswith(("_URL", "_BACKEND")) and "TEST" not in name:
            monkeypatch.delenv(name)


def sent(app: Celery, *args: Any, **options: Any) -> Any:
    """Send a task and answer its row."""
    app.send_task("some.task", args, **options)
    return queue_of(app).waiting()[-1]


# ── settings that a task takes for its own ──────────────────────────────────────────────


OF_TASKS = [
    ("task_serializer", "serializer", "pickle", "json"),
    ("task_default_rate_limit", "rate_limit", "10/m", "1/s"),
    ("task_time_limit", "time_limit", 30, 60),
    ("task_soft_time_limit", "soft_time_limit", 20, 40),
    ("task_track_started", "track_started", True, False),
    ("task_acks_late", "acks_late", True, False),
    ("task_acks_on_failure_or_timeout", "acks_on_failure_or_timeout", False, True),
    ("task_acks_on_failure", "acks_on_failure", False, True),
    ("task_acks_on_timeout", "acks_on_timeout", False, True),
    ("task_reject_on_worker_lost", "reject_on_worker_lost", True, False),
    ("task_retry_on_worker_lost", "retry_on_worker_lost", True, False),
    ("task_ignore_result", "ignore_result", True, False),
    ("task_store_eager_result", "store_eager_result", True, False),
    ("task_store_errors_even_if_ignored", "store_errors_even_if_ignored", True, False),
]


@pytest.mark.parametrize(("setting", "attribute", "value", "other"), OF_TASKS)
def test_a_task_takes_the_setting_unless_it_says_otherwise(
    app: Celery, setting: str, attribute: str, value: Any, other: Any
) -> None:
    app.conf[setting] = value

    @app.task
    def silent() -> None: ...

    @app.task(**{attribute: other})
    def outspoken() -> None: ...

    assert getattr(silent, attribute) == value
    assert getattr(outspoken, attribute) == other
    # It has been taken: what is set later is for tasks that are made later.
    app.conf[setting] = other
    assert getattr(silent, attribute) == value


@pytest.mark.parametrize("kind", ["failure", "timeout"])
def test_one_setting_speaks_for_failures_and_for_timeouts(app: Celery, kind: str) -> None:
    app.conf.update(task_acks_on_failure_or_timeout=False, task_acks_late=True)

    @app.task(**{f"acks_on_{kind}": True})
    def work() -> None: ...

    said = {"failure": work.acks_on_failure, "timeout": work.acks_on_timeout}
    assert said.pop(kind) is True
    assert list(said.values()) == [False]


def test_limits_of_the_settings_travel_with_the_job(app: Celery) -> None:
    app.conf.update(task_time_limit=30, task_soft_time_limit=20, task_default_priority=3)

    @app.task
    def work() -> None: ...

    work.delay()

    (row,) = queue_of(app).waiting()
    assert row.priority == 3
    assert (work.time_limit, work.soft_time_limit) == (30, 20)


def test_annotations_are_attributes_that_the_configuration_gives(app: Celery) -> None:
    class Slow:
        def annotate(self, task: Any) -> dict[str, Any] | None:
            return {"rate_limit": "1/h"} if task.name.endswith("slow") else None

    app.conf.task_annotations = [
        {"*": {"max_retries": 9}, "tests.named": {"max_retries": 1}},
        Slow(),
    ]

    @app.task(name="tests.named")
    def named() -> None: ...

    @app.task(name="tests.slow")
    def slow() -> None: ...

    assert slow.max_retries == 9
    assert slow.rate_limit == "1/h"
    assert named.rate_limit is None


# ── settings that shape a job ───────────────────────────────────────────────────────────


def test_arguments_are_compressed_where_the_setting_says_so(app: Celery) -> None:
    plain = sent(app, "x" * 1000)
    app.conf.task_compression = "gzip"
    small = sent(app, "x" * 1000)
    explicit = sent(app, "x" * 1000, compression="bzip2")

    assert "xxxx" in plain.args
    assert len(small.body) < 500
    assert small.body != explicit.body


def test_arguments_are_written_by_the_serializer_of_the_settings(app: Celery) -> None:
    app.conf.update(task_serializer="pickle", accept_content=["json", "pickle"])

    assert "python-serialize" in sent(app, {1, 2}).content_type


def test_a_job_that_workers_would_refuse_is_not_sent(app: Celery) -> None:
    app.conf.update(task_serializer="pickle", accept_content=["json"])

    with pytest.raises(ContentDisallowed, match="accept_content"):
        sent(app)


@pytest.mark.parametrize(
    ("settings", "options", "queue"),
    [
        ({}, {}, "celery"),
        ({"task_default_queue": "work"}, {}, "work"),
        ({"task_routes": {"some.*": "routed"}}, {}, "routed"),
        ({"task_routes": {"some.*": "routed"}}, {"queue": "said"}, "said"),
    ],
)
def test_the_queue_follows_from_the_settings_unless_it_is_said(
    app: Celery, settings: dict[str, Any], options: dict[str, Any], queue: str
) -> None:
    app.conf.update(settings)

    assert sent(app, **options).queue == queue


def test_queues_may_have_to_be_declared(app: Celery) -> None:
    app.conf.update(task_queues=[Queue("celery")], task_create_missing_queues=False)

    assert sent(app, queue="celery").queue == "celery"
    with pytest.raises(QueueNotFound, match="nowhere"):
        sent(app, queue="nowhere")


def test_exchanges_of_undeclared_queues_are_of_the_type_that_is_set(app: Celery) -> None:
    app.conf.update(task_default_exchange_type="topic", task_default_exchange="jobs")

    assert app.amqp.queues["celery"].exchange.name == "jobs"
    assert app.amqp.queues["celery"].exchange.type == "topic"


@pytest.mark.parametrize("inherits", [False, True])
def test_what_a_task_sends_may_have_its_priority(
    memory_app: Celery, desk: Any, inherits: bool
) -> None:
    memory_app.conf.task_inherit_parent_priority = inherits

    @memory_app.task
    def child() -> None: ...

    @memory_app.task
    def parent() -> None:
        child.delay()

    parent.apply_async(priority=7)
    desk(memory_app).work_one()

    (row,) = queue_of(memory_app).waiting()
    assert row.priority == (7 if inherits else 0)


def test_a_job_may_not_be_larger_than_the_setting(app: Celery) -> None:
    app.conf.update(task_body_max_size=1000, task_body_warn_size=950)

    sent(app, "x" * 900)
    with pytest.raises(PayloadTooLarge, match="task_body_max_size"):
        sent(app, "x" * 1100)


def test_a_large_job_is_warned_of_from_the_size_that_is_set(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    app.conf.task_body_warn_size = 1000

    sent(app, "x" * 900)
    assert caplog.records == []
    sent(app, "x" * 1100)
    assert "some.task" in caplog.text


def test_naive_dates_are_local_without_utc(app: Celery) -> None:
    app.conf.update(enable_utc=False, timezone="Europe/Vienna")
    noon = datetime(2030, 7, 1, 12, 0)

    due = datetime.fromisoformat(sent(app, eta=noon).eta)

    assert due == datetime(2030, 7, 1, 10, 0, tzinfo=timezone.utc)


def test_arguments_are_shown_as_deep_as_the_setting_says(app: Celery) -> None:
    deep = [[[[["bottom"]]]]]
    app.conf.task_repr_maxlevels = 2
    shallow = app.amqp.as_task_v2("id", "some.task", (deep,)).headers["argsrepr"]
    app.conf.task_repr_maxlevels = 9
    whole = app.amqp.as_task_v2("id", "some.task", (deep,)).headers["argsrepr"]

    assert "bottom" not in shallow
    assert "bottom" in whole


# ── settings of the way to the database ─────────────────────────────────────────────────

NOWHERE = "postgresql://127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("settings", "options", "tries"),
    [
        ({"task_publish_retry": False}, {}, 1),
        ({"task_publish_retry": False}, {"retry": True}, 3),
        ({}, {}, 3),
        ({}, {"retry": False}, 1),
        ({}, {"retry_policy": {"max_retries": 1}}, 2),
    ],
)
def test_sending_is_tried_again_as_the_settings_say(
    make_app: Make, settings: dict[str, Any], options: dict[str, Any], tries: int
) -> None:
    policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0}
    app = make_app(broker=NOWHERE, task_publish_retry_policy=policy, **settings)

    # Begun as a call does, since each try at a closed port would be the same.
    request = publish.sender(app).compose("some.task", (), {}, options)

    assert len(request.patience) + 1 == tries
    with pytest.raises(OperationalError):
        app.send_task("some.task", retry=False)


# ── settings of eager calls ─────────────────────────────────────────────────────────────


def test_eager_calls_run_here_and_keep_their_exceptions(app: Celery) -> None:
    app.conf.update(task_always_eager=True)

    @app.task
    def divide(x: int, y: int) -> float:
        return x / y

    assert divide.delay(6, 3).get() == 2
    assert divide.delay(1, 0).state == states.FAILURE
    app.conf.task_eager_propagates = True
    with pytest.raises(ZeroDivisionError):
        divide.delay(1, 0)
    assert queue_of(app).waiting() == []


def test_calls_by_name_are_sent_though_others_are_eager(app: Celery) -> None:
    app.conf.task_always_eager = True

    with pytest.warns(AlwaysEagerIgnored):
        assert sent(app).task == "some.task"


@pytest.mark.parametrize("stored", [False, True])
def test_results_of_eager_calls_are_kept_where_the_settings_say_so(
    app: Celery, stored: bool
) -> None:
    app.conf.update(task_always_eager=True, task_store_eager_result=stored)

    @app.task
    def answer() -> int:
        return 42

    result = app.AsyncResult(answer.delay().id)

    if stored:
        assert result.state == states.SUCCESS
    else:
        with pytest.warns(RuntimeWarning, match="task_store_eager_result"):
            assert result.state == states.PENDING


# ── settings of results ─────────────────────────────────────────────────────────────────


def test_results_tell_more_where_the_settings_say_so(each_app: Celery, desk: Any) -> None:
    each_app.conf.result_extended = True

    @each_app.task
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(1, y=2)
    desk(each_app).work_off()

    assert result.get(timeout=10) == 3
    assert (result.name, result.queue, result.retries) == (add.name, "celery", 0)


@pytest.mark.parametrize(
    ("value", "seconds"), [(60, 60), (timedelta(minutes=2), 120), (None, None)]
)
def test_results_are_kept_as_long_as_the_setting_says(
    make_app: Make, value: Any, seconds: float | None
) -> None:
    app = make_app()
    app.conf.result_expires = value

    assert app.backend.prepare_expires(app.conf.result_expires) == seconds


def test_a_client_remembers_as_many_results_as_the_setting_says(make_app: Make) -> None:
    app = make_app(result_cache_max=2)
    for number in range(3):
        app.backend._cache[str(number)] = {"status": states.SUCCESS}

    assert sorted(app.backend._cache) == ["1", "2"]


# ── settings that say what is always so ─────────────────────────────────────────────────


@pytest.mark.parametrize("deduplicate", [False, True])
@pytest.mark.parametrize("written", ["before", "after"])
def test_a_job_that_has_succeeded_is_never_delivered_again(
    postgres_app: Celery, desk: Any, deduplicate: bool, written: str
) -> None:
    postgres_app.conf.worker_deduplicate_successful_tasks = deduplicate
    runs = []

    @postgres_app.task(acks_late=True, reject_on_worker_lost=True, max_attempts=9)
    def work() -> str:
        runs.append(work.request.id)
        return "done"

    result = work.delay()
    doomed, other = desk(postgres_app), desk(postgres_app)
    (job,) = doomed.claim()
    outcome = execute(postgres_app, job, hostname="celery@doomed")
    # The worker is given up with the job, before or after it has written its success.
    if written == "before":
        doomed.settle(job, outcome)
    postgres_app.database.run(workers.bury(doomed.worker, beat=0))
    rescued = postgres_app.database.run(workers.rescue(worker=other.worker))
    if written == "after":
        assert rescued.released == 1
        doomed.settle(job, outcome)

    assert other.work_off() == []
    assert (result.get(timeout=10), runs) == ("done", [result.id])
