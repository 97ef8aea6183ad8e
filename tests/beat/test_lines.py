"""What an entry may say, in every spelling, and what is wrong with what it may not."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from pgtasks import Celery
from pgtasks.beat import ScheduleEntry
from pgtasks.beat.expressions import cron, parse, reboot, written
from pgtasks.beat.lines import fingerprint, line_of_crontab, line_of_entry
from pgtasks.beat.reading import code_of, is_stock
from pgtasks.schedules import crontab, schedule, solar


@pytest.fixture
def app() -> Celery:
    return Celery("lines", broker="memory://", set_as_current=False)


# ── expressions ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0 3 * * *", crontab("0", "3")),
        ("*/15 8-17 * * mon-fri", crontab("*/15", "8-17", day_of_week="mon-fri")),
        ("0 0 1,15 jan,jul *", crontab("0", "0", day_of_month="1,15", month_of_year="1,7")),
        ("0 0 * * 7", crontab("0", "0", day_of_week="0")),
        ("@daily", crontab("0", "0")),
        ("@hourly", crontab("0")),
        ("@weekly", crontab("0", "0", day_of_week="0")),
        ("@yearly", crontab("0", "0", day_of_month="1", month_of_year="1")),
    ],
)
def test_lines_of_cron_are_crontabs(app, text, same):
    made = parse(text, app=app)

    for field in ("minute", "hour", "day_of_month", "month_of_year", "day_of_week"):
        assert getattr(made, field) == getattr(same, field)
    assert written(made) == text
    assert parse(written(same)) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("61 * * * *", "is no line of cron"),
        ("* * * *", "has 4"),
        ("* * * * * *", "For seconds write"),
        ("@dayly", "There is no nickname '@dayly'"),
        ("0 0 l * *", "not understood"),
        ("0 0 * * 5#2", "not understood"),
        ("0 0 31 2 *", "never occurs"),
        ("@every 0s", "between 0.001 s"),
        ("@every 3 weeks", "There is no nickname"),
        ("", "has 0"),
    ],
)
def test_a_line_that_cannot_be_read_says_why(app, text, said):
    with pytest.raises(ValueError, match=said):
        parse(text, app=app)


def test_intervals_and_the_sun_can_be_written(app):
    assert parse("@every 90s", app=app).run_every == timedelta(seconds=90)
    assert parse("@every 1.5h", app=app).run_every == timedelta(minutes=90)
    assert written(0.25) == "@every 0.25s"
    assert written(timedelta(minutes=10)) == "@every 600s"
    assert written(solar("sunset", 48.2, -16.4)) == "@solar sunset 48.2 -16.4"
    assert parse("@solar sunset 48.2 -16.4", app=app).lon == -16.4
    assert isinstance(parse("@reboot", app=app), reboot)
    assert written(crontab(minute="*/30", hour={1, 2})) == "0,30 1,2 * * *"
    with pytest.raises(TypeError, match="belong into beat_schedule"):
        written(schedule(5, relative=True))


def test_a_line_has_hours_of_its_own_zone(app):
    app.conf.timezone = "UTC"
    now = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
    tokyo = parse("0 3 * * *", "Asia/Tokyo", app=app)
    tokyo.nowfun = lambda: now

    assert now + tokyo.remaining_estimate(now) == now.replace(hour=18)
    tokyo.nowfun = None
    assert pickle.loads(pickle.dumps(tokyo)) == tokyo != cron("0 3 * * *")
    with pytest.raises(ValueError, match="no time zone 'Mars/Olympus'"):
        parse("0 3 * * *", "Mars/Olympus", app=app)


# ── entries ─────────────────────────────────────────────────────────────────────────────


def test_an_entry_has_celerys_fields_and_ours(app):
    line = line_of_entry(
        "report",
        {
            "task": "proj.report",
            "schedule": "0 3 * * *",
            "args": [1],
            "kwargs": {"a": 2},
            "options": {"queue": "q"},
            "timezone": "Europe/Berlin",
            "catch_up": "all",
            "overlap": "skip",
            "jitter": timedelta(seconds=5),
            "deadline": 60,
        },
        app=app,
    )

    assert line[1:2] + line[3:] == (
        "proj.report", (1,), {"a": 2}, {"queue": "q"}, "Europe/Berlin", "all", "skip", 5.0, 60.0,
    )  # fmt: skip


def test_an_entry_may_be_a_schedule_entry_or_a_line_as_oban_has_them(app):
    entry = ScheduleEntry("e", "t", schedule=5.0, overlap="skip", app=app)
    line = line_of_crontab(
        ("@daily", "t", {"args": [1], "queue": "q", "name": "n"}),
        timezone="Asia/Tokyo",
        app=app,
    )

    assert line_of_entry("e", entry, app=app).overlap == "skip"
    assert line_of_entry("m", ("* * * * *", "t"), app=app).name == "m"
    assert (line.name, line.args, line.options) == ("n", (1,), {"queue": "q"})
    assert line.timezone == "Asia/Tokyo"
    assert line_of_crontab(("@daily", "t"), app=app).name == "t @daily"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"schedule": 5}, "its task is None"),
        ({"task": "t"}, "it has no schedule"),
        ({"task": "t", "schedule": object()}, "is no schedule"),
        ({"task": "t", "schedule": True}, "is no schedule"),
        ({"task": "t", "schedule": -5}, "between 0.001 s"),
        ({"task": "t", "schedule": 5, "catchup": "all"}, "it has 'catchup'"),
        ({"task": "t", "schedule": 5, "catch_up": "some"}, "catch_up is 'some'"),
        ({"task": "t", "schedule": 5, "overlap": "no"}, "overlap is 'no'"),
        ({"task": "t", "schedule": 5, "jitter": -1}, "jitter is -1"),
        ({"task": "t", "schedule": 5, "jitter": 1, "options": {"eta": 1}}, "leave one"),
        (("@daily",), "is no entry"),
        (7, "write a dict"),
    ],
)
def test_an_entry_that_cannot_be_meant_says_why(app, entry, said):
    with pytest.raises((TypeError, ValueError), match=said):
        line_of_entry("e", entry, app=app)


def test_a_broken_entry_keeps_no_other_from_being_read(app):
    app.conf.beat_schedule = {
        "bad": {"task": "t", "schedule": "61 * * * *"},
        "good": {"task": "t", "schedule": 5.0},
    }
    app.conf.plugins = {
        "cron": {"crontab": [("@daily", "t"), ("@dayly", "t"), ("1 * * * *",)]}
    }
    code = code_of(app)

    assert set(code.lines) == {"good", "t @daily"}
    assert set(code.broken) == {"bad", "('@dayly', 't')", "('1 * * * *',)"}


def test_what_periodic_tasks_say_is_no_option_of_the_call(app):
    @app.task(name="tick", shared=False)
    def tick():
        pass

    app.add_periodic_task(5.0, tick.s(), name="e", catch_up="all", queue="q")
    line = code_of(app).lines["e"]

    assert (line.catch_up, line.options) == ("all", {"queue": "q"})


def test_a_change_of_the_schedule_is_noticed(app):
    app.conf.beat_schedule = {"a": {"task": "t", "schedule": 5.0}}
    first = code_of(app)

    assert code_of(app, first) is first
    app.add_periodic_task(5.0, app.signature("t"), name="b")
    assert set(code_of(app, first).lines) == {"a", "b"}


SCHEDULE = """
from pgtasks import Celery
from pgtasks.beat.lines import fingerprint
from pgtasks.beat.reading import code_of
from pgtasks.schedules import BaseSchedule, crontab

class Own(BaseSchedule):
    def is_due(self, last): ...

app = Celery("same", broker="memory://")
app.conf.beat_schedule = {
    "a": {"task": "t", "schedule": crontab(minute={1, 2, 50}), "kwargs": {"x": object()}},
    "b": {"task": "t", "schedule": Own(app=app)},
    "c": {"task": "t", "schedule": 0.1, "options": {"queue": "q"}},
}
print(fingerprint(code_of(app).lines.values()))
"""


def test_two_processes_find_that_they_have_the_same_schedule(tmp_path):
    (tmp_path / "same.py").write_text(SCHEDULE)
    said = {
        subprocess.run(
            [sys.executable, "same.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }

    assert len(said) == 1 and len(said.pop().strip()) == 12


def test_whatever_an_entry_does_and_when_is_its_identity(app):
    entry = {"task": "t", "schedule": 5.0}
    same = line_of_entry("a", entry, app=app), line_of_entry("b", entry, app=app)
    others = [
        {**entry, "schedule": 6.0},
        {**entry, "task": "u"},
        {**entry, "args": [1]},
        {**entry, "options": {"queue": "q"}},
        {**entry, "overlap": "skip"},
    ]
    identities = {line_of_entry("a", each, app=app).identity for each in others}

    assert same[0].identity == same[1].identity
    assert len(identities | {same[0].identity}) == 6
    assert fingerprint([same[0]]) != fingerprint([same[1]])


@pytest.mark.parametrize(
    ("scheduler", "stock"),
    [
        ("celery.beat:PersistentScheduler", True),
        ("pgtasks.beat.PersistentScheduler", True),
        (None, True),
        ("django_celery_beat.schedulers:DatabaseScheduler", False),
        ("proj.beat:Scheduler", False),
    ],
)
def test_a_scheduler_of_ones_own_is_told_from_celerys(app, scheduler, stock):
    app.conf.beat_scheduler = scheduler
    app.conf.beat_schedule = {"a": {"task": "t", "schedule": 5.0}}

    assert is_stock(scheduler) is stock
    assert bool(code_of(app).lines) is stock
