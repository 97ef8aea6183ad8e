"""The file that Celery's beat leaves: read without Celery, and taken over once."""

from __future__ import annotations

import dbm.dumb
import pickle
import shelve
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import psycopg
import pytest

from helpers import eventually, path_to_celery
from pgtasks import Celery, beat
from pgtasks.app.memory import queue_of
from pgtasks.beat.importing import last_runs, skim
from pgtasks.beat.names import scheduler_class
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.plugins.shared_beat import SharedScheduler
from pgtasks.schedules import crontab, schedule

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")

#: Celery's own beat, with three entries that it has sent, on its own.
WRITES = """
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo
from celery import Celery
from celery.beat import PersistentScheduler
from celery.schedules import crontab, schedule
from shop_schedules import Odd

app = Celery("shop", broker="memory://", set_as_current=True)
app.conf.timezone = "Europe/Berlin"
app.conf.beat_schedule = {
    "nightly": {"task": "tick", "schedule": crontab("30", "3", nowfun=datetime.now)},
    "often": {"task": "tick", "schedule": timedelta(hours=1), "options": {"queue": "x"}},
    "aligned": {"task": "tick", "schedule": schedule(3600, relative=True)},
    "never": {"task": "tick", "schedule": crontab("0", "0", day_of_month="1")},
    ODD
}
kept = PersistentScheduler(app, schedule_filename=sys.argv[1])
moments = {
    "nightly": datetime(2026, 3, 1, 3, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    "often": datetime(2026, 3, 1, 9, 15, tzinfo=timezone.utc),
    "aligned": datetime(2026, 3, 1, 10),
    "odd": datetime(2026, 3, 1, 11, tzinfo=timezone(timedelta(hours=2))),
}
for name, moment in moments.items():
    if name in kept.schedule:
        kept.schedule[name].last_run_at = moment
        kept.schedule[name].total_run_count = 7
kept.close()
"""

SHOP_SCHEDULES = """
from celery.schedules import schedule

class Odd(schedule):
    pass
"""

LAST_RUNS = {
    "nightly": (datetime(2026, 3, 1, 2, 30, tzinfo=UTC), 7),
    "often": (datetime(2026, 3, 1, 9, 15, tzinfo=UTC), 7),
    "aligned": (datetime(2026, 3, 1, 10, tzinfo=UTC), 7),
}
ODD = {"odd": (datetime(2026, 3, 1, 9, tzinfo=UTC), 7)}


@pytest.fixture(scope="module")
def celerys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of two beats of Celery's: ``plain``, and ``odd``."""
    folder = tmp_path_factory.mktemp("celerys")
    (folder / "shop_schedules.py").write_text(SHOP_SCHEDULES)
    odd = '"odd": {"task": "tick", "schedule": Odd(60)},'
    for name, entry in (("plain", ""), ("odd", odd)):
        subprocess.run(
            [sys.executable, "-c", WRITES.replace("ODD", entry), str(folder / name)],
            env={"PYTHONPATH": f"{path_to_celery()}:{folder}"},
            check=True,
        )
    return folder


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("beat", broker="memory://", set_as_current=False) as app:
        app.conf.timezone = "Europe/Berlin"
        app.conf.beat_schedule = {
            "nightly": {"task": "tick", "schedule": crontab("30", "3")},
            "often": {"task": "tick", "schedule": timedelta(hours=1)},
            "aligned": {"task": "tick", "schedule": schedule(3600, relative=True)},
            "never": {"task": "tick", "schedule": crontab("0", "0", day_of_month="1")},
        }
        yield app


def the_next_morning() -> datetime:
    """When the beat of the tests is started: a nightly run is missing, and hourly ones."""
    return datetime(2026, 3, 2, 8, tzinfo=BERLIN)


def copy_of(celerys: Path, name: str, folder: Path) -> str:
    for path in celerys.glob(f"{name}*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return str(folder / name)


class TestLastRuns:
    @pytest.mark.parametrize(("name", "odd"), [("plain", {}), ("odd", ODD)])
    def test_are_read_whatever_classes_the_file_names(self, celerys, name, odd):
        found = last_runs(celerys / name)

        assert found.pop("never")[1] == 0
        found.pop("celery.backend_cleanup", None)
        assert found == {**LAST_RUNS, **odd}
        assert "celery" not in sys.modules

    def test_of_a_file_that_is_not_there_are_none(self, tmp_path):
        assert last_runs(tmp_path / "celerybeat-schedule") == {}
        assert list(tmp_path.iterdir()) == []

    def test_of_a_file_that_cannot_be_read_are_none_and_it_is_said(self, tmp_path, caplog):
        (tmp_path / "broken").write_bytes(b"no database at all")

        assert last_runs(tmp_path / "broken") == {}
        assert "Cannot read the last runs" in caplog.text
        assert (tmp_path / "broken").read_bytes() == b"no database at all"

    def test_are_read_from_our_own_file_too(self, app, tmp_path):
        path = str(tmp_path / "schedule")
        kept = beat.PersistentScheduler(app, schedule_filename=path)
        run = kept.reserve(kept.schedule["often"])
        kept.close()

        assert last_runs(path)["often"] == (run.last_run_at, 1)

    def test_may_be_in_the_file_of_any_library(self, tmp_path):
        path = str(tmp_path / "schedule")
        with shelve.Shelf(dbm.dumb.open(path, "c")) as file:
            file["entries"] = {
                "a": beat.ScheduleEntry("a", "t", datetime(2026, 1, 1), 3, 5)
            }

        assert last_runs(path) == {"a": (datetime(2026, 1, 1, tzinfo=UTC), 3)}

    def test_run_no_code_that_the_file_names(self):
        class Trap:
            def __reduce__(self):
                return exec, ("raise SystemExit('it ran')",)

        assert skim(pickle.dumps({"a": Trap()})) == {}

    def test_may_be_in_zones_of_pytz(self, monkeypatch):
        # Celery used it until 5.3. It is not installed here, and need not be.
        pytz = ModuleType("pytz")

        class Zone(timezone.__base__):  # a tzinfo that is pickled as pytz does
            def __init__(self, *args):
                self.args = args

            def utcoffset(self, moment):
                return timedelta(0)

            def __reduce__(self):
                return (pytz._p if self.args else pytz._UTC), self.args

        def p(*args):
            return Zone(*args)

        def utc():
            return Zone()

        for name, function in (("_p", p), ("_UTC", utc)):
            function.__module__, function.__qualname__ = "pytz", name
            setattr(pytz, name, function)
        monkeypatch.setitem(sys.modules, "pytz", pytz)
        berlin = datetime(2026, 1, 1, 12, tzinfo=Zone("Europe/Berlin", 3600, 0, "CET"))
        entries = {
            "a": beat.ScheduleEntry("a", "t", berlin, 3, 5),
            "b": beat.ScheduleEntry("b", "t", berlin.replace(tzinfo=Zone()), 4, 5),
        }
        pickled = pickle.dumps(entries)
        monkeypatch.delitem(sys.modules, "pytz")

        assert skim(pickled) == {
            "a": (datetime(2026, 1, 1, 11, tzinfo=UTC), 3),
            "b": (datetime(2026, 1, 1, 12, tzinfo=UTC), 4),
        }


class TestABeatWhereCelerysFileLies:
    def test_takes_its_last_runs_over(self, app, celerys, tmp_path, caplog):
        caplog.set_level("INFO", logger="celery.beat")
        path = copy_of(celerys, "plain", tmp_path)
        kept = beat.PersistentScheduler(app, schedule_filename=path)
        found = {name: kept.schedule[name] for name in LAST_RUNS}
        kept.close()

        assert {type(entry) for entry in found.values()} == {beat.ScheduleEntry}
        assert found["nightly"].schedule == crontab("30", "3")
        assert found["often"].options == {}, "what is in the settings counts"
        for name, (last, count) in LAST_RUNS.items():
            assert found[name].total_run_count == count
            stored = found[name].last_run_at
            assert (stored if stored.tzinfo else stored.replace(tzinfo=UTC)) == last
        assert "Took over the last runs of 3 entries" in caplog.text

    def test_does_so_once(self, app, celerys, tmp_path, caplog):
        caplog.set_level("INFO", logger="celery.beat")
        path = copy_of(celerys, "plain", tmp_path)
        beat.PersistentScheduler(app, schedule_filename=path).close()
        caplog.clear()
        again = beat.PersistentScheduler(app, schedule_filename=path)
        count = again.schedule["nightly"].total_run_count
        again.close()

        assert count == 7
        assert "Took over" not in caplog.text

    def test_sends_what_was_missed_once_and_nothing_a_second_time(
        self, app, celerys, tmp_path
    ):
        clock = {"nowfun": the_next_morning}
        schedules = {
            "nightly": crontab("30", "3", **clock),
            "often": schedule(3600, **clock),
            "aligned": schedule(3600, relative=True, **clock),
            "never": crontab("0", "0", day_of_month="1", **clock),
        }
        for name, when in schedules.items():
            app.conf.beat_schedule[name]["schedule"] = when
        kept = beat.PersistentScheduler(
            app, schedule_filename=copy_of(celerys, "plain", tmp_path)
        )
        while kept.tick() == 0:
            pass
        counts = {
            name: kept.schedule[name].total_run_count for name in (*LAST_RUNS, "never")
        }
        kept.close()

        assert counts == {"nightly": 8, "often": 8, "aligned": 8, "never": 0}
        assert len(queue_of(app).get(("celery",), 100)) == 3

    def test_keeps_them_also_if_an_entrys_class_is_gone(
        self, app, celerys, tmp_path, caplog
    ):
        app.conf.beat_schedule["odd"] = {"task": "tick", "schedule": 60}
        path = copy_of(celerys, "odd", tmp_path)
        kept = beat.PersistentScheduler(app, schedule_filename=path)
        found = {
            name: (kept.schedule[name].last_run_at, kept.schedule[name].total_run_count)
            for name in (*LAST_RUNS, *ODD)
        }
        kept.close()

        assert found == {**LAST_RUNS, **ODD}
        assert "Kept the last runs" in caplog.text

    def test_forgets_them_if_the_zone_is_another(self, app, celerys, tmp_path, caplog):
        app.conf.timezone = "Asia/Tokyo"
        path = copy_of(celerys, "plain", tmp_path)
        kept = beat.PersistentScheduler(app, schedule_filename=path)
        counts = {entry.total_run_count for entry in kept.schedule.values()}
        kept.close()

        assert counts == {0}
        assert "Timezone changed from 'Europe/Berlin' to 'Asia/Tokyo'" in caplog.text

    def test_leaves_a_file_alone_that_another_beat_has_open(self, app, tmp_path):
        path = tmp_path / "schedule"

        class Busy:
            @staticmethod
            def open(*args, **kwargs):
                raise BlockingIOError(11, "Resource temporarily unavailable")

        class Scheduler(beat.PersistentScheduler):
            persistence = Busy

        path.write_bytes(b"another's")
        with pytest.raises(ImproperlyConfigured, match="Stop the beat that has it open"):
            Scheduler(app, schedule_filename=str(path))
        assert path.read_bytes() == b"another's"


def test_a_beat_that_keeps_last_runs_in_the_database_takes_them_over_once(
    celerys: Path, tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="celery.beat")
    path = copy_of(celerys, "plain", tmp_path)
    with Celery("shop", broker=database_url, set_as_current=False) as app:
        app.conf.timezone = "Europe/Berlin"
        app.conf.beat_schedule = {
            "often": {"task": "tick", "schedule": timedelta(hours=1)},
            "never": {"task": "tick", "schedule": crontab("0", "0", day_of_month="1")},
            "new": {"task": "tick", "schedule": timedelta(hours=1)},
        }

        def jobs() -> int:
            beat = SharedScheduler(app, schedule_filename=path)
            try:
                eventually(lambda: beat.tick() > 0 and beat._runner.leads, timeout=30)
            finally:
                beat.close()
            with psycopg.connect(database_url) as connection:
                ((count,),) = connection.execute("select count(*) from pgtasks.jobs")
            return int(count)

        # The hourly one was missed since; of the others one is not due, and one is new.
        assert jobs() == 1
        assert "Took over the last runs of 2 entries" in caplog.text
        caplog.clear()
        assert jobs() == 1
        assert "Took over" not in caplog.text


class TestSchedulersByName:
    @pytest.mark.parametrize(
        "name", ["celery.beat:PersistentScheduler", "celery.beat.PersistentScheduler"]
    )
    def test_celerys_are_ours(self, name):
        assert scheduler_class(name) is beat.PersistentScheduler

    def test_a_class_is_one(self):
        assert scheduler_class(beat.Scheduler) is beat.Scheduler

    def test_a_schedule_in_redis_is_refused_with_what_to_do(self):
        with pytest.raises(ImproperlyConfigured, match="beat_schedule"):
            scheduler_class("redbeat.RedBeatScheduler")

    def test_one_that_is_built_on_celerys_own_is_refused(self):
        celerys = type("Scheduler", (), {"__module__": "celery.beat"})
        own = type("Own", (celerys,), {"__module__": "proj.beat"})

        with pytest.raises(ImproperlyConfigured, match="--as-celery"):
            scheduler_class(own)
