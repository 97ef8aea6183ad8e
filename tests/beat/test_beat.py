"""Schedules that are sent: on the clock of the test, into a queue in memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from helpers import eventually
from pgtasks import Celery, beat, signals
from pgtasks.app.memory import queue_of
from pgtasks.apps.beat import Beat
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.schedules import crontab, schedule


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, 0, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **given: float) -> None:
        self.now += timedelta(**given)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery(
        "beat", broker="memory://", backend="cache+memory://", set_as_current=False
    )

    @app.task(name="tick", shared=False)
    def tick(*args, **kwargs):
        return args

    with app:
        yield app


def sent(app: Celery, *queues: str) -> list[Any]:
    return queue_of(app).get(queues or ("celery",), 100)


def test_an_entry_is_sent_when_it_is_due_and_not_before(app, clock) -> None:
    scheduler = beat.Scheduler(app, lazy=True)
    scheduler.add(name="often", task="tick", schedule=schedule(30, nowfun=clock), args=(1,))

    assert scheduler.tick() == pytest.approx(30, abs=0.1)
    assert sent(app) == []

    clock.pass_(seconds=30)
    assert scheduler.tick() == 0
    (job,) = sent(app)
    assert (job.task, job.args) == ("tick", "[1]")
    assert scheduler.tick() == pytest.approx(30, abs=0.1)
    assert scheduler.schedule["often"].total_run_count == 1


def test_the_entry_that_is_due_first_is_sent_first(app, clock) -> None:
    scheduler = beat.Scheduler(app, lazy=True)
    for name, seconds in (("slow", 60), ("quick", 20)):
        scheduler.add(
            name=name, task="tick", schedule=schedule(seconds, nowfun=clock), args=(name,)
        )
    scheduler.tick()
    for _ in range(3):
        clock.pass_(seconds=20)
        while scheduler.tick() == 0:
            pass

    assert [job.args for job in sent(app)].count('["quick"]') == 3
    assert scheduler.schedule["slow"].total_run_count == 1


def test_options_lead_an_entry_to_its_queue_with_its_header(app, clock) -> None:
    scheduler = beat.Scheduler(app, lazy=True)
    entry = scheduler.add(
        name="mail", task="tick", schedule=5, options={"queue": "mail", "headers": {"a": 1}}
    )
    scheduler.apply_async(entry)
    (job,) = sent(app, "mail")

    assert '"celery_beat_task": true' in job.headers
    assert '"a": 1' in job.headers
    assert entry.options["headers"] == {"a": 1}


def test_an_argument_may_be_computed_when_the_task_is_sent(app, clock) -> None:
    scheduler = beat.Scheduler(app, lazy=True)
    entry = scheduler.add(
        name="lazy",
        task="tick",
        schedule=5,
        args=[beat.BeatLazyFunc(lambda: clock.now.hour)],
        kwargs={"plus": beat.BeatLazyFunc(sum, (1, 2))},
    )
    clock.pass_(hours=3)
    scheduler.apply_async(entry)
    (job,) = sent(app)

    assert (job.args, job.kwargs) == ("[15]", '{"plus": 3}')


def test_a_task_that_is_not_known_here_is_sent_by_its_name(app) -> None:
    scheduler = beat.Scheduler(app, lazy=True)
    scheduler.apply_async(scheduler.Entry(name="far", task="elsewhere.run", app=app))

    assert [job.task for job in sent(app)] == ["elsewhere.run"]


def test_an_entry_that_cannot_be_sent_is_reported_and_stops_no_other(app, caplog) -> None:
    def broken() -> None:
        raise ValueError("no such thing")

    scheduler = beat.Scheduler(app, lazy=True)
    bad = scheduler.add(
        name="bad", task="tick", schedule=5, args=[beat.BeatLazyFunc(broken)]
    )
    scheduler.apply_entry(bad)

    assert "Couldn't apply scheduled task bad: no such thing" in caplog.text
    with pytest.raises(beat.SchedulingError):
        scheduler.apply_async(bad, advance=False)


def test_an_entry_that_is_no_longer_in_the_settings_goes(app) -> None:
    app.conf.beat_schedule = {
        "old": {"task": "tick", "schedule": 5},
        "kept": {"task": "tick", "schedule": 5},
    }
    scheduler = beat.Scheduler(app)
    scheduler.schedule["kept"].total_run_count = 7
    scheduler.merge_inplace({"kept": {"task": "tick", "schedule": 9}})

    assert set(scheduler.schedule) == {"kept"}
    assert scheduler.schedule["kept"].schedule == schedule(9)
    assert scheduler.schedule["kept"].total_run_count == 7


def test_last_runs_outlive_a_restart(app, tmp_path) -> None:
    app.conf.beat_schedule = {"daily": {"task": "tick", "schedule": crontab("0", "4")}}
    path = str(tmp_path / "schedule")
    first = beat.PersistentScheduler(app, schedule_filename=path)
    run = first.reserve(first.schedule["daily"])
    first.close()
    second = beat.PersistentScheduler(app, schedule_filename=path)
    kept = second.schedule["daily"]
    second.close()

    assert kept.total_run_count == 1
    assert kept.last_run_at == run.last_run_at


def test_another_time_zone_forgets_last_runs(app, tmp_path) -> None:
    app.conf.beat_schedule = {"daily": {"task": "tick", "schedule": crontab("0", "4")}}
    path = str(tmp_path / "schedule")
    app.conf.timezone = "Europe/Berlin"
    first = beat.PersistentScheduler(app, schedule_filename=path)
    first.reserve(first.schedule["daily"])
    first.close()
    app.conf.timezone = "Asia/Tokyo"
    second = beat.PersistentScheduler(app, schedule_filename=path)
    runs = second.schedule["daily"].total_run_count
    second.close()

    assert runs == 0


def test_a_file_that_cannot_be_read_is_begun_anew(app, tmp_path, caplog) -> None:
    path = tmp_path / "schedule"
    for suffix in beat.PersistentScheduler.known_suffixes:
        path.with_name(f"schedule{suffix}").write_bytes(b"no database at all")
    scheduler = beat.PersistentScheduler(app, schedule_filename=str(path))
    scheduler.close()

    assert "Removing corrupted schedule file" in caplog.text


def test_a_service_ticks_until_it_is_stopped(app, tmp_path) -> None:
    told = []
    signals.beat_init.connect(lambda sender, **kw: told.append(sender), weak=False)
    app.conf.beat_schedule = {"often": {"task": "tick", "schedule": 0.05}}
    embedded = beat.EmbeddedService(
        app, thread=True, schedule_filename=str(tmp_path / "schedule")
    )
    embedded.start()
    count = 0

    def some_were_sent() -> bool:
        nonlocal count
        count += len(sent(app))
        return count >= 3

    eventually(some_were_sent)
    embedded.stop()
    embedded.join(10)

    assert not embedded.is_alive()
    assert told == [embedded.service]


def test_a_service_that_is_told_to_end_as_it_begins_makes_no_scheduler(app) -> None:
    # By a signal's handler, while one is being made: it would wait for the first one's locks.
    def make(**kwargs):
        raise AssertionError("a second scheduler")

    service = beat.Service(app, scheduler_cls=make)
    service.sync()

    assert service._is_stopped.is_set()


def test_entries_and_services_can_be_pickled(app) -> None:
    entry = beat.ScheduleEntry("e", "tick", schedule=schedule(5), app=app)

    assert pickle.loads(pickle.dumps(entry)) == entry
    service = beat.Service(app, hostname="probe@here")
    assert pickle.loads(pickle.dumps(service)).hostname == "probe@here"


def test_a_control_node_of_a_beat_says_what_there_is_instead(app) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"pgtasks\.all_jobs"):
        beat.BeatPidbox(beat.Service(app))


def test_the_program_shows_what_it_will_do_and_does_it(app, tmp_path, capsys) -> None:
    started = []

    class Noted(beat.Service):
        def start(self, embedded_process: bool = False) -> None:
            started.append(self)

    program = Beat(app=app, schedule=str(tmp_path / "schedule"), max_interval=7)
    program.Service = Noted
    program.install_sync_handler = lambda service: None
    program.setup_logging = lambda colorize=None: None
    program.start_scheduler()
    said = capsys.readouterr().out

    (service,) = started
    assert service.max_interval == 7
    assert "PersistentScheduler" in said
    assert f"db -> {tmp_path / 'schedule'}" in said
    assert "maxinterval -> 7.00 seconds (7s)" in said


def test_a_program_that_is_told_to_end_writes_down_its_last_runs(tmp_path) -> None:
    (tmp_path / "proj.py").write_text(
        "from pgtasks import Celery\n"
        "from pgtasks.apps.beat import Beat\n"
        "app = Celery('proj', broker='memory://', backend='cache+memory://')\n"
        "app.conf.beat_schedule = {'often': {'task': 'x', 'schedule': 0.05}}\n"
        "if __name__ == '__main__':\n"
        "    Beat(app=app, loglevel='INFO', schedule='last-runs').run()\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "proj.py"], cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        eventually(
            lambda: (tmp_path / "log").read_text().count("Sending due task often") >= 2,
            timeout=30,
            message=(tmp_path / "log").read_text,
        )
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    with Celery("other", broker="memory://", set_as_current=False) as other:
        other.conf.beat_schedule = {"often": {"task": "x", "schedule": 0.05}}
        kept = beat.PersistentScheduler(
            other, schedule_filename=str(tmp_path / "last-runs")
        )
        runs = kept.schedule["often"].total_run_count
        kept.close()

    assert runs >= 2
