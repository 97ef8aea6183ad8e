"""``app.crons``: entries that are made by hand, and what can be said of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from pgtasks import Celery
from pgtasks.exceptions import CronNotFound, ImproperlyConfigured
from pgtasks.schedules import crontab, schedule


@pytest.fixture
def app(database_url: str) -> Iterator[Celery]:
    app = Celery("crons", broker=database_url, set_as_current=False)

    @app.task(name="add", shared=False)
    def add(x, y):
        return x + y

    app.conf.beat_schedule = {"code": {"task": "add", "schedule": 60.0}}
    with app:
        yield app


def entry(app: Celery, name: str):
    return next((each for each in app.crons.list() if each.name == name), None)


def test_an_entry_says_what_it_was_told(app):
    app.crons.add(
        "report", crontab("0", "3", day_of_week="mon-fri"), app.tasks["add"], [1, 2],
        timezone="Asia/Tokyo", options={"queue": "q"}, catch_up="all", overlap="skip",
        jitter=timedelta(seconds=9), deadline=600, paused=True,
    )  # fmt: skip
    found = entry(app, "report")

    assert found[:13] == (
        "report", "table", "add", "0 3 * * 1,2,3,4,5", "Asia/Tokyo", (1, 2), {},
        {"queue": "q"}, "all", "skip", 9.0, 600.0, None,
    )  # fmt: skip
    assert found.paused_by and found.paused_since <= datetime.now(timezone.utc)


def test_changes_leave_the_rest_as_it_was(app):
    app.crons.add("e", "0 3 * * *", "add", [1, 2], timezone="Asia/Tokyo", overlap="skip")
    app.crons.update("e", args=[3, 4], catch_up="all")
    app.crons.update("e", schedule="@daily")
    found = entry(app, "e")

    assert (found.schedule, found.timezone, found.args) == ("@daily", "Asia/Tokyo", (3, 4))
    assert (found.catch_up, found.overlap) == ("all", "skip")
    app.crons.delete("e")
    assert entry(app, "e") is None


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"schedule": "61 * * * *"}, ValueError, "is no line of cron"),
        ({"schedule": schedule(5, relative=True)}, TypeError, "belong into beat_schedule"),
        ({"task": None}, TypeError, "its task is None"),
        ({"args": [object()]}, Exception, "object"),
        ({"options": {"eta": datetime(2026, 1, 1)}}, TypeError, "such as JSON has"),
        ({"overlap": "perhaps"}, ValueError, "overlap is 'perhaps'"),
        ({"timezone": "Mars"}, ValueError, "no time zone 'Mars'"),
        ({"name": "code"}, ValueError, "in the program's beat_schedule"),
        ({"name": "there"}, ValueError, "already"),
        ({"name": ""}, TypeError, "its name is ''"),
    ],
)
def test_what_cannot_be_an_entry_says_why_and_is_none(app, given, error, said):
    app.crons.add("there", 5, "add")
    known = {"name": "e", "schedule": "@daily", "task": "add", **given}
    with pytest.raises(error, match=said):
        app.crons.add(**known)

    assert {each.name for each in app.crons.list()} == {"code", "there"}


def test_entries_that_there_are_not_cannot_be_changed(app):
    for change in (
        lambda: app.crons.update("no", args=[]),
        lambda: app.crons.delete("no"),
        lambda: app.crons.pause("no"),
        lambda: app.crons.resume("no"),
        lambda: app.crons.run("no"),
        lambda: app.crons.next_runs("no"),
    ):
        with pytest.raises(CronNotFound, match="'no'"):
            change()
    with pytest.raises(CronNotFound, match="change it there"):
        app.crons.delete("code")
    app.crons.add("e", 5, "add")
    with pytest.raises(TypeError, match="has no arg"):
        app.crons.update("e", arg=[])


def test_a_pause_of_an_entry_of_the_program_is_kept_for_it(app):
    app.crons.pause("code", by="ops")
    paused = entry(app, "code")
    app.crons.resume("code")

    assert (paused.paused_by, paused.next) == ("ops", None)
    assert entry(app, "code").paused_since is None
    app.crons.resume("code")


def test_the_next_runs_count_from_the_last_tick(app):
    app.crons.add("e", "@every 1h", "add")
    runs = app.crons.next_runs("e", 3)
    now = datetime.now(timezone.utc)

    assert runs[2] - runs[1] == runs[1] - runs[0] == timedelta(hours=1)
    assert timedelta(minutes=59) < runs[0] - now <= timedelta(hours=1)
    app.crons.add("boot", "@reboot", "add")
    assert app.crons.next_runs("boot") == []


def test_an_entry_can_be_run_besides_its_ticks(app):
    app.crons.add("e", "@daily", "add", [1, 2], options={"queue": "q"})
    result = app.crons.run("e")
    [info] = app.jobs.list()

    assert (info.task_id, info.queue, list(info.args)) == (result.id, "q", [1, 2])
    assert entry(app, "e").runs == 0


def test_without_a_database_entries_of_the_program_are_not_to_be_had_by_hand():
    with (
        Celery("m", broker="memory://", set_as_current=False) as app,
        pytest.raises(ImproperlyConfigured, match="in memory"),
    ):
        app.crons.list()
