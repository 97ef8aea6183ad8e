"""What is enqueued: ``assert_enqueued``, ``refute_enqueued``, ``all_enqueued``."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from unittest.mock import ANY

import pytest

from pgtasks import chord
from pgtasks.testing import all_enqueued, assert_enqueued, refute_enqueued


@pytest.fixture
def app(each_app):
    return each_app


@pytest.fixture
def mail(app):
    @app.task(name="shop.mail")
    def mail(*args, **kwargs):
        """Never run."""

    return mail


def told(callable, *args, **kwargs):
    with pytest.raises(AssertionError) as caught:
        callable(*args, **kwargs)
    return str(caught.value)


def test_a_job_is_found_by_its_task(app, mail):
    mail.delay(1, user=2)

    job = assert_enqueued(mail)

    assert (job.task, job.args, job.kwargs, job.queue) == (
        "shop.mail",
        [1],
        {"user": 2},
        "celery",
    )
    assert (job.state, job.attempt, job.tags, job.meta) == ("available", 0, [], {})
    assert abs((job.scheduled_at - datetime.now(timezone.utc)).total_seconds()) < 30
    assert assert_enqueued("shop.mail", app=app) == job
    refute_enqueued("shop.other", app=app)


@pytest.mark.parametrize(
    "fields",
    [
        {"args": [1, 2]},
        {"args": (1, ANY)},
        {"kwargs": {"user": 7}},
        {"kwargs": {"deep": {"b": 2}}},
        {"kwargs": {"deep": {"list": [{"x": 1}, 3]}}},
        {"kwargs": {"by_number": {1: "one"}}},
        {"kwargs": {}},
        {"meta": {"source": {"kind": "api"}}},
        {"tags": "bulk"},
        {"tags": ["news", "bulk"]},
        {"queue": "mailers"},
        {"priority": 3},
        {"state": "scheduled"},
        {"task_id": "the-id"},
        {"max_attempts": 4},
        {"scheduled_at": timedelta(seconds=60)},
        {"scheduled_at": (timedelta(seconds=80), 25)},
        {"scheduled_at": (timedelta(seconds=80), timedelta(seconds=25))},
    ],
)
def test_a_job_is_found_by_a_part_of_what_it_has(app, mail, fields):
    mail.apply_async(
        (1, 2),
        {
            "user": 7,
            "deep": {"a": 1, "b": 2, "list": [{"x": 1, "y": 2}, 3]},
            "by_number": {1: "one"},
        },
        meta={"source": {"kind": "api", "key": 9}},
        tags=["news", "bulk", "third"],
        queue="mailers",
        priority=3,
        task_id="the-id",
        countdown=60,
        max_attempts=4,
    )

    assert assert_enqueued(mail, **fields).task_id == "the-id"


@pytest.mark.parametrize(
    "fields",
    [
        {"args": [1]},
        {"args": [1, 3]},
        {"kwargs": {"user": 8}},
        {"kwargs": {"other": 7}},
        {"kwargs": {"deep": {"c": 1}}},
        {"kwargs": {"deep": [1]}},
        {"meta": {"source": {"kind": "web"}}},
        {"tags": ["news", "other"]},
        {"queue": "celery"},
        {"priority": 0},
        {"state": "available"},
        {"scheduled_at": timedelta(seconds=80)},
        {"scheduled_at": datetime(2030, 1, 1, tzinfo=timezone.utc)},
    ],
)
def test_a_job_that_is_otherwise_is_not_meant(app, mail, fields):
    mail.apply_async(
        (1, 2),
        {"user": 7, "deep": {"a": 1}},
        meta={"source": {"kind": "api"}},
        tags=["news", "bulk"],
        queue="mailers",
        priority=3,
        countdown=60,
    )

    refute_enqueued(mail, **fields)
    assert f"← other {next(iter(fields))}" in told(assert_enqueued, mail, **fields)


def test_dates_may_be_a_second_apart(app, mail):
    due = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
    mail.apply_async(eta=due)

    assert_enqueued(mail, scheduled_at=due + timedelta(seconds=0.9))
    assert_enqueued(mail, scheduled_at=due.replace(tzinfo=None))
    assert_enqueued(mail, scheduled_at=due.astimezone(timezone(timedelta(hours=5))))
    refute_enqueued(mail, scheduled_at=due + timedelta(seconds=1.1))
    assert_enqueued(mail, scheduled_at=(due + timedelta(minutes=5), 300))


def test_values_of_richer_types_are_compared_as_the_task_gets_them(app, mail):
    when = datetime(2030, 1, 1, tzinfo=timezone.utc)
    mail.delay(when=when, both=(1, 2))

    assert_enqueued(mail, kwargs={"when": when, "both": (1, 2)})


def test_the_newest_comes_first(app, mail):
    for number in range(3):
        mail.delay(number)

    assert [job.args for job in all_enqueued(mail)] == [[2], [1], [0]]
    assert [job.args for job in all_enqueued(mail, args=[1])] == [[1]]
    assert assert_enqueued(mail).args == [2]


def test_the_body_of_a_chord_is_enqueued(app, mail):
    chord([mail.si(1), mail.si(2)], mail.s(3)).delay()

    assert assert_enqueued(mail, state="suspended")
    assert len(all_enqueued(mail)) == 3


def test_what_has_been_run_is_not_enqueued(app, mail, desk):
    @app.task(bind=True, name="shop.again")
    def again(self):
        raise self.retry(countdown=60)

    mail.delay()
    again.delay()
    assert len(all_enqueued(app=app)) == 2
    desk(app).work_off()

    assert all_enqueued(app=app) == []


def test_a_job_whose_arguments_cannot_be_read_is_listed(app, mail):
    app.conf.accept_content = ["json", "pickle"]
    mail.apply_async((1,), serializer="pickle")
    app.conf.accept_content = ["json"]

    job = assert_enqueued(mail)
    assert (job.args, job.kwargs) == (None, None)
    assert "arguments that cannot be read" in told(assert_enqueued, mail, args=[1])


# ── what a failure says ─────────────────────────────────────────────────────────────────


def test_the_message_lists_what_is_enqueued_nearest_first(app, mail):
    @app.task(name="shop.report")
    def report():
        """Never run."""

    report.apply_async(tags=["daily"], meta={"day": 1}, priority=5)
    mail.apply_async((1,), {"user": 2}, queue="mailers")
    mail.apply_async(eta=datetime(2030, 1, 1, tzinfo=timezone.utc))

    message = told(assert_enqueued, mail, kwargs={"user": 3}, queue="mailers")

    assert message.splitlines() == [
        "No such job is enqueued:",
        "",
        "    task = 'shop.mail'",
        "    kwargs = {'user': 3}",
        "    queue = 'mailers'",
        "",
        "3 jobs are enqueued:",
        "",
        "    shop.mail(1, user=2)  queue=mailers  available  ← other kwargs",
        "    shop.mail()  queue=celery  scheduled at 2030-01-01T00:00:00+00:00"
        "  ← other kwargs, queue",
        "    shop.report()  queue=celery  available  priority=5  tags=['daily']"
        "  meta={'day': 1}  ← other task, kwargs, queue",
    ]


def test_the_message_says_that_nothing_is_enqueued(app, mail):
    assert told(assert_enqueued, mail).endswith("Nothing is enqueued.")


def test_the_message_of_a_refutation_shows_the_job(app, mail):
    mail.delay(1)

    message = told(refute_enqueued, app=app)
    assert message.startswith("Such a job is enqueued:\n\n    (any job)\n\nOne job is ")
    assert "shop.mail(1)" in message


def test_a_long_list_is_cut(app, mail):
    mail.delay_many([(number,) for number in range(25)])

    lines = told(assert_enqueued, mail, args=["none"]).splitlines()
    assert lines[-1] == "    … and 5 more"
    assert len([line for line in lines if "shop.mail(" in line]) == 20


def test_a_misspelt_field_is_named(app, mail):
    with pytest.raises(TypeError, match=r"'arg' is nothing that a job has: args, .*"):
        assert_enqueued(mail, arg=[1])
    with pytest.raises(TypeError, match="is no task"):
        assert_enqueued(mail.run, app=app)


# ── waiting ─────────────────────────────────────────────────────────────────────────────


def test_a_job_may_come_later(app, mail):
    timer = threading.Timer(0.1, mail.delay)
    timer.start()

    assert assert_enqueued(mail, timeout=20).args == []
    timer.join()


def test_a_job_that_does_not_come_is_waited_for_so_long(app, mail):
    began = time.monotonic()

    assert told(assert_enqueued, mail, timeout=0.2).startswith(
        "No such job is enqueued within 0.2 s:"
    )
    assert 0.2 <= time.monotonic() - began < 10


def test_a_job_must_not_come_later_either(app, mail):
    timer = threading.Timer(0.1, mail.delay)
    timer.start()

    assert "shop.mail()" in told(refute_enqueued, mail, timeout=20)
    timer.join()
    refute_enqueued("shop.other", app=app, timeout=0.05)
