"""``app.jobs`` looks: for one job, for a page of them, for how many there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.exceptions import ImproperlyConfigured, JobNotFound


@pytest.fixture
def app(postgres_app: Celery) -> Celery:
    @postgres_app.task(name="shop.send")
    def send(order: int, to: str = "") -> int:
        return order

    @postgres_app.task(name="shop.fail", max_attempts=2, backoff=0)
    def fail(text: str) -> None:
        raise TimeoutError(text)

    @postgres_app.task(name="mail.news")
    def news() -> None:
        return None

    postgres_app.finalize()
    return postgres_app


def ids(found: list[Any]) -> set[str]:
    return {job.task_id for job in found}


def test_everything_about_a_job_is_told(app: Celery, desk: Callable[..., Any]) -> None:
    send, fail = app.tasks["shop.send"], app.tasks["shop.fail"]
    result = send.apply_async(
        (7,), {"to": "ann"}, priority=3, tags=["b2b"], meta={"tenant": "acme"}, countdown=60,
        link=app.tasks["mail.news"].si(), max_attempts=5, expires=600,
    )  # fmt: skip
    failed = fail.delay("no answer")
    desk(app).work_off()
    job, over = app.jobs.get(result), app.jobs.get(failed.id)

    assert (job.task_id, job.task, job.queue) == (result.id, "shop.send", "celery")
    assert (job.state, job.status, job.finished) == ("scheduled", "PENDING", False)
    assert (job.args, job.kwargs) == ([7], {"to": "ann"})
    assert job.call == "(7, to='ann')"
    assert (job.priority, job.tags, job.meta) == (3, ["b2b"], {"tenant": "acme"})
    assert (job.attempt, job.max_attempts, job.next) == (0, 5, ["mail.news"])
    assert job.scheduled_at - job.inserted_at == pytest.approx(
        timedelta(seconds=60), abs=timedelta(seconds=1)
    )
    assert job.expires_at is not None and job.finished_at is None
    assert (over.state, over.status, over.attempt) == ("discarded", "FAILURE", 2)
    assert [each["message"] for each in over.errors] == ["no answer", "no answer"]
    assert over.error["kind"] == "TimeoutError"
    assert "TimeoutError: no answer" in over.traceback
    assert over.finished_at > over.attempted_at
    assert over.worker == "celery@desk"


def test_what_there_is_not_is_an_error_with_a_remedy(app: Celery) -> None:
    with pytest.raises(JobNotFound, match=r"There is no job 'nobody' in .*misspelt"):
        app.jobs.get("nobody")


def test_the_newest_come_first(app: Celery) -> None:
    sent = [app.tasks["shop.send"].delay(number).id for number in range(3)]

    assert [job.task_id for job in app.jobs.list()] == sent[::-1]
    assert [job.task_id for job in app.jobs.list(order="inserted", limit=2)] == sent[:2]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"state": "scheduled"}, {"later"}),
        ({"state": ["scheduled", "discarded"]}, {"later", "failed"}),
        ({"state": "completed"}, {"done"}),
        ({"queue": "mail"}, {"news"}),
        ({"queue": ["mail", "nothing"]}, {"news"}),
        ({"task": "shop.*"}, {"first", "second", "later", "failed", "done"}),
        ({"task": "shop.sen?"}, {"first", "second", "later", "done"}),
        ({"task": "shop_*"}, set()),
        ({"task": "%"}, set()),
        ({"worker": "celery@d*"}, {"failed", "done"}),
        ({"worker": "celery@elsewhere"}, set()),
        ({"tags": "b2b"}, {"first", "second"}),
        ({"tags": ["b2b", "new"]}, {"second"}),
        ({"meta": {"tenant": "acme"}}, {"first", "later"}),
        ({"meta": {"tenant": "acme", "batch": 7}}, {"later"}),
        ({"args": [7]}, {"first", "done"}),
        ({"args": 7}, {"first", "done"}),
        ({"kwargs": {"to": "ann"}}, {"first"}),
        ({"kwargs": {"order": 7}}, {"first", "done"}),
        ({"kwargs": {"order": 7, "to": "ann"}}, {"first"}),
        ({"kwargs": {"order": 8}}, {"second", "later"}),
        ({"priority": 3}, {"second"}),
        ({"error": "Timeout%"}, {"failed"}),
        ({"error": "no answer"}, {"failed"}),
        ({"error": "answer"}, set()),
        ({"error": ["Value%", "%answer"]}, {"failed"}),
        ({"held": True}, set()),
        ({"finished_after": 60}, {"failed", "done"}),
        ({"finished_before": 60}, set()),
        ({"scheduled_after": datetime(2001, 1, 1, tzinfo=timezone.utc), "queue": "mail"}, {"news"}),
        ({"scheduled_after": -60}, {"later"}),
        ({"older_than": 60}, set()),
        ({"older_than": timedelta(0), "state": "scheduled"}, {"later"}),
        ({"inserted_before": "2001-01-01T00:00:00"}, set()),
        ({"root": "first"}, {"first"}),
        ({"group": "g"}, {"second"}),
        ({"state": "available", "task": "shop.*", "tags": ["b2b"]}, {"first", "second"}),
    ],
)  # fmt: skip
def test_jobs_are_looked_for_by(
    app: Celery, desk: Callable[..., Any], filters: dict[str, Any], found: set[str]
) -> None:
    send = app.tasks["shop.send"]
    app.tasks["shop.fail"].apply_async(("no answer",), task_id="failed")
    send.apply_async((7,), task_id="done")
    worker = desk(app)
    worker.work_off()
    send.apply_async(
        (7,), {"to": "ann"}, task_id="first", tags=["b2b"], meta={"tenant": "acme"}
    )
    send.apply_async(
        (8,), task_id="second", tags=["b2b", "new"], priority=3, group_id="g", group_index=0
    )
    send.apply_async(
        (),
        {"order": 8},
        task_id="later",
        countdown=3600,
        meta={"tenant": "acme", "batch": 7},
    )
    app.tasks["mail.news"].apply_async(task_id="news", queue="mail")

    assert ids(app.jobs.list(**filters)) == found
    assert ids([*app.jobs.iterate(page=1, **filters)]) == found
    assert app.jobs.count(**filters) == len(found)


def test_a_page_goes_on_behind_the_one_before(app: Celery) -> None:
    sent = {app.tasks["shop.send"].apply_async((n,), priority=n % 3).id for n in range(20)}
    for order in (
        "inserted",
        "-inserted",
        "priority",
        "-scheduled",
        "finished",
        "-attempt",
    ):
        pages, last = [], None
        while page := app.jobs.list(order=order, limit=7, after=last):
            pages.append([job.task_id for job in page])
            last = page[-1].cursor

        assert [len(page) for page in pages] == [7, 7, 6]
        assert {each for page in pages for each in page} == sent
    [first, *_] = app.jobs.list(order="priority", limit=1)
    assert first.priority == 0


def test_waiting_jobs_and_those_that_are_over_are_in_one_order(
    app: Celery, desk: Callable[..., Any]
) -> None:
    send, fail = app.tasks["shop.send"], app.tasks["shop.fail"]
    first = send.delay(1)
    desk(app).work_off()
    second, third = send.delay(2), fail.delay("x")

    assert [job.task_id for job in app.jobs.list(order="inserted")] == [
        first.id, second.id, third.id
    ]  # fmt: skip
    # What has not ended has no end yet, and stands behind all that has.
    assert app.jobs.list(order="finished", limit=1)[0].task_id == first.id


def test_jobs_are_counted_by_what_they_have_in_common(
    app: Celery, desk: Callable[..., Any]
) -> None:
    for number in range(3):
        app.tasks["shop.send"].delay(number)
    desk(app).work_off()
    app.tasks["shop.send"].delay(0)
    app.tasks["mail.news"].apply_async(queue="mail")

    assert app.jobs.count() == 5
    assert app.jobs.count(by="state") == {"available": 2, "completed": 3}
    assert app.jobs.count(by=["queue", "state"]) == {
        ("celery", "available"): 1, ("celery", "completed"): 3, ("mail", "available"): 1,
    }  # fmt: skip
    assert app.jobs.count(by="worker", state="completed") == {"celery@desk": 3}
    assert app.jobs.count(by="task", queue="nowhere") == {}


def test_rows_that_were_written_by_hand_do_no_harm(app: Celery) -> None:
    with app.database.connection() as connection:
        connection.execute(
            "insert into pgtasks.jobs (task, task_id, args, kwargs, meta, errors, embed, "
            "headers, scheduled_at) values ('t', 'odd', 'NaN', '[', '[1]', '[3]', '7', '{', "
            "'infinity'), ('t', 'old', '[NaN]', '{}', '{}', '[]', null, null, '-infinity')"
        )
    app.tasks["shop.send"].delay(7)
    odd = app.jobs.get("odd")

    assert (odd.args, odd.kwargs, odd.meta, odd.errors) == (None, None, {}, [])
    assert (odd.scheduled_at, odd.next) == (None, [])
    assert odd.call == "(<4 bytes of application/json>)"
    assert len(app.jobs.list(order="scheduled")) == 3
    assert len(app.jobs.list(kwargs={"order": 7})) == 1
    assert app.jobs.list(error="%x%", meta={"a": 1}, args=[1]) == []


@pytest.mark.parametrize(
    ("filters", "error", "words"),
    [
        ({"state": "availabel"}, ValueError, "Did you mean 'available'"),
        ({"stat": "available"}, TypeError, "Did you mean 'state'"),
        ({"queue": 7}, TypeError, "queue=7"),
        ({"meta": "x"}, TypeError, "give a dict"),
        ({"older_than": "soon"}, ValueError, "is no date"),
        ({"older_than": float("nan")}, ValueError, "finite"),
        ({"older_than": 1, "inserted_before": 1}, TypeError, "say the same"),
        ({"order": "newest"}, ValueError, "jobs can be listed by inserted"),
    ],
)
def test_a_question_that_cannot_be_is_refused_with_a_remedy(
    app: Celery, filters: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        app.jobs.list(**filters)


def test_a_pattern_that_ends_in_an_escape_is_no_error(app: Celery) -> None:
    assert app.jobs.list(error="x\\") == []
    assert app.jobs.list(task="x\\") == []


def test_jobs_in_memory_cannot_be_looked_for(memory_app: Celery) -> None:
    with pytest.raises(ImproperlyConfigured, match="memory://"):
        memory_app.jobs.list()


def test_a_secret_is_shown_as_its_sender_wants(app: Celery) -> None:
    result = app.tasks["shop.send"].apply_async((7,), argsrepr="(***)", kwargsrepr="{}")

    assert app.jobs.get(result).call == "((***), {})"


@pytest.mark.parametrize("order", ["-inserted", "-attempted", "-finished"])
def test_the_newest_are_found_however_long_ago_they_were(
    app: Celery, desk: Callable[..., Any], order: str
) -> None:
    # The newest are looked for in the latest part of history first.
    for number in range(12):
        app.tasks["shop.send"].apply_async((number,), task_id=f"{number:02}")
    desk(app).work_off()
    with app.database.connection() as connection:
        connection.execute(
            "update pgtasks.finished_jobs set inserted_at = inserted_at - age, attempted_at = "
            "attempted_at - age, finished_at = finished_at - age "
            "from (select task_id as of, (12 - task_id::int) * interval '2 hours' as age "
            "from pgtasks.finished_jobs) as ages where of = task_id"
        )
    app.tasks["shop.send"].apply_async((99,), task_id="waits")
    app.jobs.cancel(app.tasks["shop.send"].apply_async((99,), task_id="gone"), by="ann")
    expected = [job.task_id for job in app.jobs.iterate(order=order.removeprefix("-"))][
        ::-1
    ]
    pages = {size: [*app.jobs.iterate(order=order, page=size)] for size in (1, 3, 5, 100)}

    if order == "-attempted":
        # Two that were never begun have no order among themselves but that of their ids.
        expected[:2] = sorted(expected[:2])
    for found in pages.values():
        assert [job.task_id for job in found] == expected


@pytest.mark.parametrize(
    ("state", "reads"),
    [
        ("executing", False),
        (["available", "retryable"], False),
        (["available", "completed"], True),
        (None, True),
    ],
)
def test_history_is_read_only_if_it_may_hold_what_is_asked_for(
    app: Celery, monkeypatch: pytest.MonkeyPatch, state: Any, reads: bool
) -> None:
    asked = []
    run = app.database.run

    def listen(query: Any, **options: Any) -> Any:
        asked.append(json.loads(query.params.get("filter", "{}")).get("finished_within"))
        return run(query, **options)

    monkeypatch.setattr(app.database, "run", listen)
    app.jobs.list(state=state, order="attempted")

    assert (0.0 not in asked) == reads
