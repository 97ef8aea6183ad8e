"""django-celery-beat's tables: read as they are, and sent once however many beats run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from helpers import eventually, path_to_celery

pytest.importorskip("django")

PROJECT = Path(__file__).parent / "django_project"

#: What the programs of these tests begin with.
PREFACE = """
import json, logging, sys
from datetime import datetime, timedelta, timezone
import django
django.setup()
logging.basicConfig()
from django.db import connection, transaction
from pgtasks.beat.names import scheduler_class
from bureau.tasks import app
from pgtasks.contrib.django.tables import tables
app.finalize()
PeriodicTask, PeriodicTasks, Interval, Crontab, Solar, Clocked = tables()
UTC = timezone.utc
now = datetime.now(UTC)
answer = None

def interval(seconds):
    return Interval.objects.get_or_create(every=seconds, period="seconds")[0]

def add(name, when=None, **fields):
    when = when or {"interval": interval(60)}
    fields.setdefault("last_run_at", now - timedelta(hours=1))
    made = PeriodicTask.objects.create(name=name, task="bureau.tasks.stamp", **when, **fields)
    PeriodicTask.objects.filter(pk=made.pk).update(date_changed=now - timedelta(hours=1))
    return made

def a_scheduler():
    made = scheduler_class(app.conf.beat_scheduler)(app)
    made.look_every = 0
    return made

def send_all(scheduler):
    for _ in range(50):
        if scheduler.tick() > 0:
            break

def row(name):
    return PeriodicTask.objects.get(name=name)

def run_of(name):
    found = row(name)
    return [found.enabled, found.total_run_count, found.last_run_at is not None]

def jobs(column="args"):
    with connection.cursor() as cursor:
        cursor.execute(f"select {column} from pgtasks.jobs order by id")
        return [value for value, in cursor.fetchall()]
"""


class Bureau:
    """Runs programs of the project, and its beats."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.beats: list[subprocess.Popen[bytes]] = []

    def environment(self, door: str, **given: str) -> dict[str, str]:
        paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        if door != "left":
            paths.append(str(path_to_celery()))
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "BUREAU_DATABASE_URL": self.url,
            "BUREAU_DOOR": door,
            "DJANGO_SETTINGS_MODULE": "bureau.settings",
            **given,
        }

    def run(self, program: str, *, door: str = "alias", **environment: str) -> Any:
        """Run a program; the answer is what it leaves in ``answer``, and what it logged."""
        whole = f"{PREFACE}\n{program}\nprint(json.dumps(answer))"
        done = subprocess.run(
            [sys.executable, "-c", whole],
            env=self.environment(door, **environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.log = done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def start_beat(self, *options: str, door: str = "alias") -> subprocess.Popen[bytes]:
        log = self.folder / f"beat-{len(self.beats)}.log"
        with log.open("wb") as output:
            beat = subprocess.Popen(
                [sys.executable, "-m", "pgtasks", "-A", "bureau.tasks", "beat", *options],
                cwd=self.folder,
                env=self.environment(door, PYTHONUNBUFFERED="1"),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.beats.append(beat)
        return beat

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("beat-*.log"))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture(scope="module")
def _tables(
    _worker_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """django-celery-beat's tables as its own migrations make them."""
    bureau = Bureau(_worker_database, tmp_path_factory.mktemp("bureau"))
    bureau.run(
        "from django.core.management import call_command\n"
        "call_command('migrate', 'django_celery_beat', verbosity=0)"
    )
    yield
    with psycopg.connect(_worker_database, autocommit=True) as connection:
        found = connection.execute(
            "select tablename from pg_tables where schemaname = 'public'"
            " and tablename like 'django\\_%'"
        ).fetchall()
        for (name,) in found:
            connection.execute(f'drop table "{name}" cascade')


@pytest.fixture
def bureau(_tables: None, database_url: str, tmp_path: Path) -> Iterator[Bureau]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for kind in (
            "periodictask",
            "periodictasks",
            "intervalschedule",
            "crontabschedule",
        ):
            connection.execute(f"truncate django_celery_beat_{kind} cascade")
    bureau = Bureau(database_url, tmp_path)
    yield bureau
    for beat in bureau.beats:
        if beat.poll() is None:
            beat.send_signal(signal.SIGKILL)
            beat.wait()


@pytest.fixture(params=["alias", "celery", "left"])
def door(request: pytest.FixtureRequest) -> str:
    """The package on pgtasks' alias, on a Celery that is installed, or not there any more."""
    return request.param


class TestARow:
    def test_of_each_kind_is_sent_with_what_it_says(self, bureau, door):
        answer = bureau.run(
            """
soon = now.replace(microsecond=0) - timedelta(minutes=5)
add("every minute", args='["interval"]', kwargs='{"a": 1}', headers='{"h": "x"}')
add("on the clock", {"crontab": Crontab.objects.create(minute="*/5", timezone="Asia/Kolkata")},
    args='["crontab"]', queue="slow", priority=3)
add("of the sun", {"solar": Solar.objects.get_or_create(
    event="solar_noon", latitude="52.5", longitude="13.4")[0]}, args='["solar"]',
    last_run_at=now - timedelta(days=2), expire_seconds=900)
add("at a moment", {"clocked": Clocked.objects.create(clocked_time=soon)}, one_off=True,
    args='["clocked"]', last_run_at=None)
scheduler = a_scheduler()
send_all(scheduler)
names = "every minute", "on the clock", "of the sun", "at a moment"
answer = [sorted(jobs()), dict(zip(jobs("args"), jobs("queue"))),
          dict(zip(jobs("args"), jobs("priority"))), [run_of(name) for name in names],
          jobs("kwargs"), [json.loads(each)["headers"] for each in jobs("headers")],
          [each is None for each in jobs("expires_at")],
          (row("every minute").last_run_at - now).total_seconds(), type(scheduler).__module__]
""",
            door=door,
        )

        sent, queues, priorities, runs, kwargs, headers, unlimited, late, module = answer
        assert sent == ['["clocked"]', '["crontab"]', '["interval"]', '["solar"]']
        assert queues['["crontab"]'] == "slow"
        assert queues['["interval"]'] == "celery"
        assert priorities['["crontab"]'] == 3
        assert runs == [[True, 1, True]] * 3 + [[False, 0, False]]
        assert '{"a": 1}' in kwargs
        named = {each["periodic_task_name"]: each for each in headers}
        assert named["every minute"]["h"] == "x"
        assert named["every minute"]["celery_beat_task"] is True
        assert unlimited.count(False) == 1
        assert 0 <= late < 30
        assert module == "pgtasks.contrib.django.schedulers"

    def test_is_left_alone_if_it_says_so(self, bureau):
        answer = bureau.run(
            """
add("off", enabled=False)
add("later", start_time=now + timedelta(hours=1), last_run_at=None)
add("not yet", last_run_at=now)
add("expired", expires=now - timedelta(seconds=1))
add("sent by the other", one_off=True, total_run_count=1)
scheduler = a_scheduler()
send_all(scheduler)
answer = [jobs(), run_of("expired"), run_of("sent by the other"), run_of("later"),
          scheduler.schedule["later"].is_due()[1]]
"""
        )

        sent, expired, other, later, seconds = answer
        assert sent == []
        assert expired == [False, 0, False]
        assert other == [False, 0, False]
        assert later == [True, 0, False]
        assert 3500 < seconds <= 3600

    def test_that_runs_once_does_so(self, bureau):
        answer = bureau.run(
            """
add("once", one_off=True)
add("begun", start_time=now - timedelta(seconds=1), last_run_at=None)
scheduler = a_scheduler()
for _ in range(3):
    send_all(scheduler)
    scheduler._heap = None
answer = [jobs("task"), run_of("once"), run_of("begun")]
"""
        )

        assert answer == [["bureau.tasks.stamp"] * 2, [False, 0, False], [True, 1, True]]

    def test_may_be_sent_by_hand(self, bureau):
        answer = bureau.run(
            """
add("a", last_run_at=now)
scheduler = a_scheduler()
scheduler.apply_async(scheduler.schedule["a"])
answer = [len(jobs()), run_of("a"), row("a").last_run_at > now, scheduler.tick() > 0]
"""
        )

        assert answer == [1, [True, 1, True], True, True]

    def test_that_is_broken_is_reported_once_and_stops_no_other(self, bureau):
        answer = bureau.run(
            """
good = add("good")
add("no json", args="[1")
add("no list", args='{"a": 1}')
PeriodicTask.objects.bulk_create([PeriodicTask(name="no schedule", task="x")])
add("no day", {"crontab": Crontab.objects.create(day_of_month="31", month_of_year="4")})
scheduler = a_scheduler()
send_all(scheduler)
PeriodicTasks.update_changed()
send_all(scheduler)
answer = [len(jobs()), PeriodicTask.objects.filter(enabled=True).count()]
"""
        )

        assert answer == [1, 5]
        for name, remedy in (
            ("no json", "its args are no JSON"),
            ("no list", "its args must be a list in JSON"),
            ("no schedule", "set one of interval, crontab, solar and clocked"),
            ("no day", "never occurs"),
        ):
            assert bureau.log.count(f"The periodic task '{name}' is not sent") == 1
            assert remedy in bureau.log

    @pytest.mark.parametrize("door", ["alias", "left"], indirect=True)
    def test_that_people_change_is_seen(self, bureau, door):
        answer = bureau.run(
            """
add("a", last_run_at=now)
scheduler = a_scheduler()
send_all(scheduler)
before, heap = list(scheduler.schedule), scheduler._heap
send_all(scheduler)
unchanged = scheduler._heap is heap
found = row("a")
found.interval = interval(1)
found.save()
add("b")
PeriodicTasks.objects.update_or_create(ident=1, defaults={"last_update": datetime.now(UTC)})
send_all(scheduler)
answer = [before, sorted(scheduler.schedule), scheduler.schedule["a"].schedule.seconds,
          len(jobs()), scheduler.max_interval + type(scheduler).look_every, unchanged]
PeriodicTask.objects.filter(name="b").delete()
PeriodicTasks.objects.update(last_update=datetime.now(UTC))
send_all(scheduler)
answer.append(sorted(scheduler.schedule))
""",
            door=door,
        )

        before, names, seconds, sent, patience, unchanged, after = answer
        assert unchanged, "nothing is made anew where nothing has changed"
        assert (before, names, after) == (["a"], ["a", "b"], ["a"])
        assert seconds == 1
        assert sent >= 1
        assert patience <= 5

    def test_is_understood_without_time_zones(self, bureau):
        answer = bureau.run(
            """
from zoneinfo import ZoneInfo
there = datetime.now(ZoneInfo("America/New_York")).replace(tzinfo=None)
made = add("naive", last_run_at=there - timedelta(seconds=50))
scheduler = a_scheduler()
left = scheduler.schedule["naive"].is_due()[1]
PeriodicTask.objects.filter(pk=made.pk).update(last_run_at=there - timedelta(seconds=70))
scheduler = a_scheduler()
send_all(scheduler)
late = (row("naive").last_run_at - there).total_seconds()
answer = [left, len(jobs()), late]
""",
            BUREAU_NAIVE="1",
        )

        left, sent, late = answer
        assert 0 < left <= 10
        assert sent == 1
        assert 0 <= late < 30


class TestTwoBeats:
    def test_send_a_run_once(self, bureau):
        answer = bureau.run(
            """
for name in "abc":
    add(name)
add("once", one_off=True)
beats = [a_scheduler(), a_scheduler()]
for beat in beats:
    beat.schedule, beat.populate_heap()
for beat in beats:
    send_all(beat)
answer = [len(jobs()), [run_of(name) for name in "abc"],
          len({beat.schedule["a"].last_run_at for beat in beats})]
"""
        )

        assert answer == [4, [[True, 1, True]] * 3, 1]

    def test_send_each_run_once_as_processes_and_see_what_is_changed(self, bureau):
        bureau.run("add('often', {'interval': interval(1)}, last_run_at=now)")
        beats = [bureau.start_beat("-l", "info"), bureau.start_beat("-S", "django")]

        def runs() -> int:
            ((count,),) = bureau.query(
                "select total_run_count from django_celery_beat_periodictask"
            )
            return int(count)

        eventually(lambda: runs() >= 4, timeout=60, message=bureau.logs)
        beats[0].kill()
        there = runs()
        eventually(lambda: runs() >= there + 2, timeout=60, message=bureau.logs)
        bureau.run(
            "found = row('often')\nfound.args = '[\"changed\"]'\nfound.save()",
            door="celery",
        )
        eventually(
            lambda: bureau.query("select 1 from pgtasks.jobs where args = '[\"changed\"]'"),
            timeout=60,
            message=bureau.logs,
        )
        beats[1].send_signal(signal.SIGTERM)
        assert beats[1].wait(30) == 0, bureau.logs()
        assert bureau.query("select count(*) from pgtasks.jobs") == [(runs(),)]


class TestASchedulerThatDerivesFromDjangoCeleryBeats:
    @pytest.fixture(autouse=True)
    def _module(self, bureau: Bureau) -> None:
        # Importing it defines models, so it cannot be had before Django is set up.
        (bureau.folder / "mine.py").write_text(
            "from django_celery_beat.schedulers import DatabaseScheduler\n"
            "class Mine(DatabaseScheduler): pass\n"
        )

    def test_works_on_the_alias(self, bureau):
        bureau.run("add('often', {'interval': interval(1)}, last_run_at=now)")
        beat = bureau.start_beat("-S", "mine:Mine")

        eventually(
            lambda: bureau.query("select count(*) from pgtasks.jobs") >= [(2,)],
            timeout=60,
            message=bureau.logs,
        )
        beat.terminate()
        assert beat.wait(30) == 0, bureau.logs()

    def test_is_refused_if_it_is_built_on_celerys_own_beat(self, bureau):
        beat = bureau.start_beat("-S", "mine:Mine", door="celery")

        assert beat.wait(60) == 78
        assert "Start with 'pgtasks --as-celery'" in bureau.logs()


class TestARunThatFails:
    def test_to_be_inserted_is_not_counted_and_made_later(self, bureau):
        answer = bureau.run(
            """
from pgtasks.storage.errors import StorageUnavailable
add("a", one_off=True)
add("b")
scheduler = a_scheduler()
task = app.tasks["bureau.tasks.stamp"]
def away(*args, **kwargs):
    raise StorageUnavailable("the server is gone")
real = type(task).apply_async
type(task).apply_async = away
waits = [scheduler.tick(), scheduler.tick()]
before = [run_of("a"), run_of("b"), len(jobs())]
type(task).apply_async = real
send_all(scheduler)
answer = [waits, before, run_of("a"), run_of("b"), len(jobs())]
"""
        )

        waits, before, a, b, sent = answer
        assert 0 < waits[0] < waits[1]
        assert before == [[True, 0, True], [True, 0, True], 0]
        assert (a, b, sent) == ([False, 0, False], [True, 1, True], 2)
        assert bureau.log.count("Cannot use the schedule") == 1

    def test_for_a_reason_of_its_own_counts_and_is_reported(self, bureau):
        answer = bureau.run(
            """
app.conf.task_create_missing_queues = False
add("bad", queue="nowhere")
add("good", args='["good"]')
scheduler = a_scheduler()
send_all(scheduler)
answer = [jobs(), run_of("bad"), run_of("good")]
"""
        )

        assert answer == [['["good"]'], [True, 1, True], [True, 1, True]]
        assert "Couldn't apply scheduled task bad" in bureau.log

    def test_as_the_server_goes_away_is_made_when_it_is_back(self, bureau):
        answer = bureau.run(
            """
import psycopg
def cut():
    with psycopg.connect(app.database.url, autocommit=True) as other:
        with connection.cursor() as cursor:
            cursor.execute("select pg_backend_pid()")
            (backend,) = cursor.fetchone()
        other.execute("select pg_terminate_backend(%s, 5000)", [backend])
add("a")
cut()
scheduler = a_scheduler()
send_all(scheduler)
at_the_start = len(jobs())
PeriodicTask.objects.update(last_run_at=now - timedelta(hours=1))
PeriodicTasks.objects.update_or_create(ident=1, defaults={"last_update": now})
scheduler.schedule, scheduler.populate_heap()
cut()
wait = scheduler.tick()
send_all(scheduler)
answer = [at_the_start, wait, len(jobs()), run_of("a")]
"""
        )

        at_the_start, wait, sent, run = answer
        assert at_the_start == 1
        assert wait > 0
        assert (sent, run) == (2, [True, 2, True])


class TestEntriesOfTheSettings:
    SCHEDULE = {
        "quick": {"task": "bureau.tasks.stamp", "schedule": 0.5, "args": [1]},
        "slow": {
            "task": "bureau.tasks.stamp",
            "schedule": 90,
            "options": {"queue": "slow", "priority": 0, "expires": 20},
        },
    }

    @pytest.mark.parametrize("door", ["alias", "left"], indirect=True)
    def test_are_written_into_the_tables_once(self, bureau, door):
        answer = bureau.run(
            """
from pgtasks.schedules import crontab
app.conf.beat_schedule["nightly"] = {
    "task": "x", "schedule": crontab(minute=[30, 0], hour="3", app=app)}
def mark():
    return str(PeriodicTasks.objects.values_list("last_update", flat=True).first())
a_scheduler()
first = mark()
PeriodicTask.objects.filter(name="slow").update(enabled=False)
scheduler = a_scheduler()
quick, slow, nightly = map(row, ("quick", "slow", "nightly"))
answer = [first == mark(), sorted(scheduler.schedule),
          [quick.interval.every, quick.interval.period, quick.args],
          [slow.interval.every, slow.queue, slow.priority, slow.expire_seconds],
          [nightly.crontab.minute, nightly.crontab.hour, str(nightly.crontab.timezone)],
          Interval.objects.count()]
""",
            door=door,
            BUREAU_SCHEDULE=json.dumps(self.SCHEDULE),
        )

        unchanged, names, quick, slow, nightly, intervals = answer
        assert unchanged
        assert [name for name in names if name != "celery.backend_cleanup"] == [
            "nightly",
            "quick",
        ]
        assert quick == [500000, "microseconds", "[1]"]
        assert slow == [90, "slow", 0, 20]
        assert nightly == ["0,30", "3", "Europe/Berlin"]
        assert intervals == 2

    def test_that_cannot_be_written_are_reported_and_stop_no_other(self, bureau):
        answer = bureau.run(
            """
class Odd: app = None
app.conf.beat_schedule = {
    "odd": {"task": "x", "schedule": Odd()},
    "l" * 300: {"task": "x", "schedule": 5},
    "idle": {"schedule": 5},
    "good": {"task": "x", "schedule": 5, "options": {"unique": True}}}
answer = sorted(a_scheduler().schedule)
"""
        )

        assert answer == ["good"]
        assert (
            "The entry 'good' of beat_schedule goes without its options unique"
            in bureau.log
        )
        for name in ("odd", "l" * 300, "idle"):
            assert f"Cannot write the entry '{name}' of beat_schedule" in bureau.log


class TestAProjectInDisorder:
    def test_without_the_tables_is_told_how_to_make_them(self, bureau, fresh_database: str):
        bureau.url = fresh_database
        answer = bureau.run(
            """
from pgtasks.exceptions import ImproperlyConfigured
try:
    a_scheduler()
except ImproperlyConfigured as error:
    answer = str(error)
"""
        )

        assert "manage.py migrate django_celery_beat" in answer

    def test_that_is_not_set_up_is_told_so(self, bureau):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from pgtasks import Celery\n"
                "from pgtasks.beat.names import scheduler_class\n"
                "scheduler_class('django')(Celery('x', broker='memory://'))",
            ],
            env={name: value for name, value in os.environ.items() if "DJANGO" not in name},
            capture_output=True,
            text=True,
            check=False,
        )

        assert "set DJANGO_SETTINGS_MODULE" in done.stderr


def test_the_schedules_of_rows_are_values() -> None:
    import pickle
    from datetime import datetime, timezone

    from pgtasks.contrib.django.kinds import ZonedCrontab, clocked, present

    kolkata = ZonedCrontab("0", "3", tz="Asia/Kolkata", nowfun=present)
    moment = clocked(datetime(2026, 1, 1, tzinfo=timezone.utc), nowfun=present)

    assert kolkata == pickle.loads(pickle.dumps(kolkata))
    assert kolkata != ZonedCrontab("0", "3", tz="Asia/Tokyo", nowfun=present)
    assert "Asia/Kolkata" in repr(kolkata)
    assert moment == pickle.loads(pickle.dumps(moment))
    assert moment != clocked(datetime(2026, 1, 2, tzinfo=timezone.utc))
    assert "2026-01-01" in repr(moment)
