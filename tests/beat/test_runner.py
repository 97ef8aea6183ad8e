"""One schedule, many who could send it: each tick is one job, whatever is deployed when."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from helpers import eventually
from pgtasks import Celery
from pgtasks.beat import BeatLazyFunc
from pgtasks.plugins.clock import DatabaseClock
from pgtasks.plugins.runner import Runner
from pgtasks.schedules import BaseSchedule, crontab, schedstate
from pgtasks.storage import borrowed
from pgtasks.storage.database import Database
from pgtasks.storage.errors import StorageError, StorageFull, StorageUnavailable
from pgtasks.storage.query import Query


class Stage:
    """Makes programs with schedules, and looks at the tables."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True)
        self.apps: list[Celery] = []
        self.runners: list[Runner] = []

    def rows(self, statement: str, *params: Any) -> list[tuple]:
        cursor = self.connection.execute(statement, params)
        return cursor.fetchall() if cursor.description else []

    def app(self, schedule: dict[str, Any], **conf: Any) -> Celery:
        app = Celery("stage", broker=self.url, set_as_current=False)
        app.conf.beat_schedule = schedule
        app.conf.update(conf)

        @app.task(name="tick", shared=False)
        def tick(*args, **kwargs):
            return args

        self.apps.append(app)
        return app

    def runner(
        self, schedule: dict[str, Any] | Celery, *, node: str = "n", **conf: Any
    ) -> Runner:
        app = schedule if isinstance(schedule, Celery) else self.app(schedule, **conf)
        runner = Runner(app, node=node, lease=30.0)
        self.runners.append(runner)
        return runner

    def jobs(self, entry: str = "%") -> list[tuple[str, dict]]:
        return self.rows(
            "select task_id, headers::jsonb -> 'headers' from pgtasks.jobs "
            "where headers::jsonb -> 'headers' ->> 'cron_entry' like %s order by id", entry,
        )  # fmt: skip

    def late(self, entry: str, **given: float) -> None:
        """As if the last tick of an entry had been so long ago."""
        self.rows(
            "update pgtasks.crons set last_tick = clock_timestamp() - %s, revision = revision + 1 "
            "where name = %s", timedelta(**given), entry,
        )  # fmt: skip
        for runner in self.runners:
            runner.wake()

    def vanish(self) -> None:
        """Whoever leads has been gone for a while."""
        self.rows("update pgtasks.leaders set expires_at = now() - interval '2 minutes'")

    def close(self) -> None:
        self.connection.close()
        for app in self.apps:
            app.close()


@pytest.fixture
def stage(database_url: str) -> Iterator[Stage]:
    stage = Stage(database_url)
    yield stage
    stage.close()


def every(seconds: float, **more: Any) -> dict[str, Any]:
    return {"task": "tick", "schedule": seconds, **more}


NIGHTLY = {"task": "tick", "schedule": crontab("0", "4")}


# ── ticks ───────────────────────────────────────────────────────────────────────────────


def test_a_tick_is_sent_with_its_job_at_its_time(stage: Stage):
    runner = stage.runner({"often": every(0.2, args=[1], options={"queue": "q"})})
    wait, sent = runner.step()
    assert (sent, stage.jobs()) == (0, [])
    assert 0 < wait <= 0.2

    deadline = time.monotonic() + 20
    count = 0
    while count < 3 and time.monotonic() < deadline:
        time.sleep(wait)
        wait, sent = runner.step()
        count += sent
    rows = stage.rows(
        "select tick.tick, tick.task_id, tick.inserted_at - tick.tick, job.args, job.queue, "
        "job.headers::jsonb -> 'headers' from pgtasks.cron_ticks as tick "
        "join pgtasks.jobs as job using (task_id) order by tick.tick"
    )

    assert count == len(rows) >= 3
    assert {row[3:5] for row in rows} == {("[1]", "q")}
    for tick, _, late, _, _, headers in rows:
        assert datetime.fromisoformat(headers["cron_tick"]) == tick
        assert headers["cron_entry"] == "often" and headers["celery_beat_task"] is True
        assert late > timedelta(milliseconds=-20)
    steps = {after[0] - before[0] for before, after in pairwise(rows)}
    assert all(step % timedelta(seconds=0.2) == timedelta(0) for step in steps)
    [(runs, last)] = stage.rows("select runs, last_task_id from pgtasks.crons")
    assert (runs, last) == (count, rows[-1][1])


def test_of_ten_that_run_the_same_schedule_one_sends_each_tick(stage: Stage):
    runners = [stage.runner({"e": every(3600)}, node=f"n{number}") for number in range(10)]
    for runner in runners:
        runner.step()
    assert sum(runner.leads for runner in runners) == 1
    stage.late("e", hours=1)
    assert sum(runner.step()[1] for runner in runners) == 1

    # Even if all of them believe to lead: as after a stop, or with two schedules.
    others = [
        stage.runner({"e": every(3600), f"own{number}": NIGHTLY}) for number in range(3)
    ]
    for runner in others:
        runner.step()
    stage.late("e", hours=1)

    assert sum(runner.step()[1] for runner in [*runners, *others]) == 1
    assert len(stage.jobs("e")) == 2


def test_who_was_followed_while_stopped_sends_nothing(stage: Stage):
    first, second = (stage.runner({"e": every(3600)}, node=node) for node in "ab")
    first.step()
    stage.vanish()
    second.step()
    stage.late("e", hours=1)
    # As it was when it was stopped: its term, and an entry that is due.
    first._look_at = float("inf")
    for charge in first._charges.values():
        charge.last -= timedelta(hours=1)
        charge.follows = stage.rows("select last_tick::text from pgtasks.crons")[0][0]
    first._heap = [(first.clock.now() - timedelta(days=1), id) for id in first._charges]

    assert first.step()[1] == 0
    assert second.step()[1] == 1
    first.wake()
    first.step()
    assert not first.leads
    assert len(stage.jobs()) == 1


def test_a_tick_whose_commit_got_lost_is_not_sent_twice(stage: Stage, monkeypatch):
    runner = stage.runner({"e": every(3600)})
    runner.step()
    stage.late("e", hours=1)
    real = Database.transaction

    def lost(self):
        @contextmanager
        def committed():
            with real(self) as session:
                yield session
            raise StorageUnavailable("the answer to the commit was lost", sqlstate=None)

        return committed()

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", lost)
        with pytest.raises(Exception, match="was lost"):
            runner.step()
    runner.step()
    runner.step()

    assert len(stage.jobs()) == 1


def test_a_tick_waits_for_a_disk_that_is_full(stage: Stage, monkeypatch):
    runner = stage.runner({"e": every(3600)})
    runner.step()
    stage.late("e", hours=1)
    with monkeypatch.context() as patch:

        def full(*args, **kwargs):
            raise StorageFull("no space left on device", sqlstate="53100")

        patch.setattr("pgtasks.app.publish.Sender.send_chunk", full)
        with pytest.raises(StorageFull):
            runner.step()
    runner.step()

    assert len(stage.jobs()) == 1
    assert stage.rows("select error from pgtasks.crons") == [(None,)]


def test_missed_ticks_are_sent_as_the_entry_says(stage: Stage):
    runner = stage.runner(
        {
            "last": every(10),
            "all": every(10, catch_up="all"),
            "skip": every(60, catch_up="skip"),
        }
    )
    runner.step()
    for name in ("last", "all", "skip"):
        stage.late(name, seconds=55 if name != "skip" else 60 + 30)
    runner.step()
    runner.step()

    assert [len(stage.jobs(name)) for name in ("last", "all", "skip")] == [1, 5, 0]
    ticks = [
        datetime.fromisoformat(headers["cron_tick"]) for _, headers in stage.jobs("all")
    ]
    assert ticks == sorted(ticks) and ticks[-1] - ticks[0] == timedelta(seconds=40)


@pytest.mark.parametrize(
    ("schedule", "ahead", "goes_on"),
    [
        (30.0, {"days": 365}, True),
        (30.0, {"minutes": 20}, True),
        (crontab(), {"days": 365}, True),
        (crontab(), {"minutes": 20}, False),
    ],
)
def test_a_clock_that_was_set_back_repeats_no_hour_and_stops_no_interval(
    stage: Stage, caplog, schedule, ahead, goes_on
):
    runner = stage.runner({"e": {"task": "tick", "schedule": schedule}})
    runner.step()
    stage.late("e", **{key: -value for key, value in ahead.items()})
    runner.step()
    [charge] = runner._charges.values()
    soon = charge.next < runner.clock.now() + timedelta(seconds=61)

    assert soon is goes_on
    assert ("a clock went wrong" in caplog.text) is goes_on


def test_when_the_clock_of_the_database_is_set_every_entry_is_looked_at_anew(
    stage: Stage, caplog
):
    runner = stage.runner({"e": every(30)})
    runner.step()
    # As if it had been two hours later there until now.
    runner.clock._offset += 7200
    [charge] = runner._charges.values()
    charge.last = charge.next = runner.clock.now()
    runner.wake()
    runner.step()
    [charge] = runner._charges.values()

    assert "The clock of the database was set" in caplog.text
    assert charge.next < runner.clock.now() + timedelta(seconds=31)


def test_a_clock_of_the_database_that_was_set_is_followed(stage: Stage):
    now = [100.0]
    clock = DatabaseClock(lambda: now[0])

    def ask(said: float, took: float) -> None:
        with clock.asking() as learn:
            now[0] += took
            learn(said)

    ask(5000.0, 0.002)
    assert clock.seconds() == pytest.approx(5000.001)
    ask(5000.3, 0.5)
    assert clock.seconds() == pytest.approx(5000.501), "a slow answer says less"
    ask(9000.0, 0.5)
    assert clock.seconds() == pytest.approx(9000.25), "but this cannot be"


def test_jobs_are_put_off_at_random_where_the_entry_says_so(stage: Stage):
    runner = stage.runner({"e": every(1, catch_up="all", jitter=1000)})
    runner.step()
    stage.late("e", seconds=40)
    runner.step()
    delays = [
        float(row[0])
        for row in stage.rows(
            "select extract(epoch from scheduled_at - inserted_at) from pgtasks.jobs"
        )
    ]

    assert len(delays) >= 40
    assert -1 < min(delays) < 400 and 600 < max(delays) <= 1000


def test_a_job_that_is_not_over_is_overtaken_skipped_or_queued_behind(stage: Stage, caplog):
    caplog.set_level(logging.INFO)
    runner = stage.runner(
        {name: every(3600, overlap=name) for name in ("allow", "skip", "queue")}
    )
    runner.step()
    for _ in range(3):
        for name in ("allow", "skip", "queue"):
            stage.late(name, hours=1)
        runner.step()
    assert [len(stage.jobs(name)) for name in ("allow", "skip", "queue")] == [3, 1, 3]
    assert "'skip' was passed over" in caplog.text
    [(alone,)] = stage.rows(
        "select count(*) from pgtasks.jobs where headers::jsonb ->> 'alone' is not null"
    )
    assert alone == 3, "one runs at a time"

    stage.rows(
        "delete from pgtasks.jobs where headers::jsonb -> 'headers' ->> 'cron_entry' = 'skip'"
    )
    stage.late("skip", hours=1)
    runner.step()
    assert len(stage.jobs("skip")) == 1


def test_a_unique_task_is_sent_as_it_says(stage: Stage):
    runner = stage.runner(
        {"e": every(1, catch_up="all", options={"unique": {"period": 60}})}
    )
    runner.step()
    stage.late("e", seconds=5)
    runner.step()

    assert len(stage.jobs()) == 1
    assert stage.rows("select count(*) from pgtasks.cron_ticks")[0][0] >= 5


# ── errors ──────────────────────────────────────────────────────────────────────────────


class Raising(BaseSchedule):
    def is_due(self, last_run_at):
        raise ValueError("no moon today")


def test_a_broken_entry_is_reported_once_and_stops_no_other(stage: Stage, caplog):
    def no() -> None:
        raise RuntimeError("nothing to say")

    runner = stage.runner(
        {
            "unread": {"task": "tick", "schedule": "61 * * * *"},
            "raising": {"task": "tick", "schedule": Raising()},
            "lazy": every(3600, args=[BeatLazyFunc(no)]),
            "refused": every(3600, options={"task_id": "a\0b"}),
            "good": every(3600),
        }
    )
    runner.step()
    for _ in range(3):
        for name in ("lazy", "refused", "good"):
            stage.late(name, hours=1)
        runner.step()

    assert len(stage.jobs("good")) == len(stage.jobs()) == 3
    for name, said in (
        ("unread", "is no line of cron"),
        ("raising", "no moon today"),
        ("lazy", "nothing to say"),
        ("refused", ""),
    ):
        assert caplog.text.count(f"The entry {name!r} cannot be sent") == 1
        assert said in caplog.text
    assert "The others go on" in caplog.text
    errors = dict(
        stage.rows("select name, error from pgtasks.crons where error is not null")
    )
    assert set(errors) == {"lazy", "refused"}
    assert errors["lazy"] == "RuntimeError: nothing to say"


def test_an_entry_that_works_again_is_told(stage: Stage, caplog):
    caplog.set_level(logging.INFO)
    broken = [True]

    def maybe() -> int:
        if broken[0]:
            raise RuntimeError("not yet")
        return 7

    runner = stage.runner({"e": every(3600, args=[BeatLazyFunc(maybe)])})
    runner.step()
    stage.late("e", hours=1)
    runner.step()
    broken[0] = False
    stage.late("e", hours=1)
    runner.step()

    assert "'e' could be sent again" in caplog.text
    assert stage.rows("select error from pgtasks.crons") == [(None,)]
    assert stage.rows("select args from pgtasks.jobs") == [("[7]",)]


class Counted(BaseSchedule):
    """Due at every second question."""

    asked = 0

    def is_due(self, last_run_at):
        type(self).asked += 1
        return schedstate(self.asked % 2 == 0, 0.01)


def test_a_schedule_of_ones_own_decides_itself(stage: Stage):
    runner = stage.runner({"own": {"task": "tick", "schedule": Counted()}})

    def some() -> bool:
        runner.step()
        return len(stage.jobs("own")) >= 3

    eventually(some)


# ── deploys ─────────────────────────────────────────────────────────────────────────────


def entry(stage: Stage, name: str) -> tuple:
    rows = stage.rows(
        "select schedule, office, last_tick from pgtasks.crons where name = %s", name
    )
    return rows[0] if rows else ()


def test_the_newest_of_two_releases_decides_about_what_both_have(stage: Stage):
    old = stage.runner({"both": every(100), "gone": every(3600), "same": every(3600)})
    old.step()
    new = stage.runner(
        {"both": every(200), "new": every(3600, args=[1]), "same": every(3600)}
    )
    new.step()
    old.wake()
    old.step()

    assert (old.leads, new.leads) == (True, True)
    assert entry(stage, "both")[:2] == ("@every 200s", new.office)
    for name in ("both", "gone", "same", "new"):
        stage.late(name, hours=2)
    counts = [old.step()[1], new.step()[1]]
    assert counts == [1, 3], "the old one sends what only it has"
    assert len(stage.jobs("both")) == len(stage.jobs("same")) == 1


def test_an_old_release_that_starts_again_takes_nothing_from_a_newer_one(stage: Stage):
    old, again = (stage.runner({"e": every(100)}) for _ in range(2))
    old.step()
    new = stage.runner({"e": every(200)})
    new.step()
    # The old leader ends, and a worker of its release takes over.
    old.close()
    again.step()

    assert again.leads
    assert entry(stage, "e")[:2] == ("@every 200s", new.office)
    # Until the new release is rolled back.
    new.close()
    again._claim_at = 0.0
    again.wake()
    again.step()
    assert entry(stage, "e")[:2] == ("@every 100s", again.office)


def test_what_a_deploy_removes_is_sent_no_more(stage: Stage):
    old = stage.runner({"kept": every(3600), "gone": every(3600)})
    old.step()
    old.close()
    new = stage.runner({"kept": every(3600)})
    new.step()
    for name in ("kept", "gone"):
        stage.late(name, hours=1)
    new.step()

    assert [len(stage.jobs(name)) for name in ("kept", "gone")] == [1, 0]


def test_an_entry_that_was_renamed_goes_on_from_its_last_tick(stage: Stage):
    old = stage.runner({"before": NIGHTLY, "other": every(3600)})
    old.step()
    stage.late("before", days=1)
    last = entry(stage, "before")[2]
    old.close()
    new = stage.runner({"after": NIGHTLY, "other": every(3600)})
    new.step()

    assert entry(stage, "before") == ()
    assert len(stage.jobs("after")) == 1, "the tick of the night of the deploy is not lost"
    assert entry(stage, "after")[2] > last
    old.step()
    assert len(stage.jobs()) == 1


def test_hours_that_have_changed_do_not_look_back(stage: Stage):
    hour = datetime.now(timezone.utc).hour
    old = stage.runner(
        {"e": {"task": "tick", "schedule": crontab("0", str((hour + 2) % 24))}}
    )
    old.step()
    stage.late("e", hours=20)
    old.close()
    # Its new hour was an hour ago: it comes tomorrow.
    new = stage.runner(
        {"e": {"task": "tick", "schedule": crontab("0", str((hour - 1) % 24))}}
    )
    new.step()
    assert stage.jobs() == []

    third = stage.runner({"e": every(3600)})
    new.close()
    third.step()
    stage.late("e", minutes=50)
    third.close()
    fourth = stage.runner({"e": every(2400)})
    fourth.step()
    assert len(stage.jobs()) == 1, (
        "an interval counts from the last run, however long it is now"
    )


def test_what_nobody_has_had_for_a_week_is_forgotten(stage: Stage):
    old = stage.runner({"gone": every(3600), "paused": every(3600)})
    old.step()
    stage.rows("update pgtasks.crons set paused_at = now() where name = 'paused'")
    stage.rows("update pgtasks.leaders set expires_at = now() - interval '9 days'")
    new = stage.runner({"e": every(3600)})
    new.step()

    assert stage.rows("select name from pgtasks.crons order by name") == [
        ("e",),
        ("paused",),
    ]
    assert stage.rows("select count(*) from pgtasks.leaders") == [(1,)]


def test_applications_of_other_names_have_entries_of_their_own(stage: Stage):
    one, two = stage.app({"e": every(3600)}), stage.app({"e": every(3600)})
    two.main = "another"
    runners = [stage.runner(one), stage.runner(two)]
    for runner in runners:
        runner.step()
    stage.late("e", hours=1)

    assert [runner.step()[1] for runner in runners] == [1, 1]
    assert stage.rows("select entry from pgtasks.cron_ticks order by 1") == [
        ("another e",), ("stage e",),
    ]  # fmt: skip


def test_reboot_is_when_a_fleet_begins_and_not_when_leaders_change(stage: Stage):
    given = {"boot": {"task": "tick", "schedule": "@reboot"}}
    first, second = stage.runner(given), stage.runner(given)
    first.step()
    assert len(stage.jobs()) == 1
    first.close()
    second.step()
    assert second.leads and len(stage.jobs()) == 1

    stage.vanish()
    third = stage.runner(given)
    third.step()
    assert third.leads and len(stage.jobs()) == 2


def test_entries_that_are_added_while_it_runs_are_sent(stage: Stage):
    app = stage.app({"e": every(3600)})
    runner = stage.runner(app)
    runner.step()
    app.add_periodic_task(1800, app.tasks["tick"].s(), name="late")
    runner.step()
    runner.step()
    stage.late("late", hours=1)
    runner.step()

    assert len(stage.jobs("late")) == 1


# ── who leaves it to whom ───────────────────────────────────────────────────────────────


def test_without_entries_nobody_stands_for_election(stage: Stage):
    runner = stage.runner({})

    assert runner.step() == (60.0, 0)
    assert stage.rows("select count(*) from pgtasks.leaders") == [(0,)]


def test_a_scheduler_of_ones_own_has_the_schedule_for_itself(stage: Stage, caplog):
    from pgtasks.beat.presence import presence

    caplog.set_level(logging.INFO)
    runner = stage.runner({"e": every(3600)})
    with presence(runner.app, "own@here"):
        eventually(
            lambda: stage.rows("select 1 from pgtasks.leaders where office = 'beat:stage'")
        )
        runner.step()
        stage.late("e", hours=1)
        assert runner.step()[1] == 0
    runner.wake()
    assert runner.step()[1] == 0, "it may come back"
    assert "left to it" in caplog.text

    stage.rows(
        "update pgtasks.leaders set expires_at = now() - interval '25 h' "
        "where office = 'beat:stage'"
    )
    runner.wake()
    runner.step()
    runner._claim_at = 0.0
    runner.wake()
    runner.step()
    stage.late("e", hours=1)
    assert runner.step()[1] == 1
    assert "has not been seen for 25 h" in caplog.text


# ── by hand ─────────────────────────────────────────────────────────────────────────────


def test_an_entry_that_is_made_by_hand_is_sent_without_a_new_start(stage: Stage):
    runner = stage.runner({})
    runner.step()
    runner.app.crons.add("e", "@every 1h", "tick", [1], {"at": datetime(2026, 1, 1)})
    runner.wake()
    runner.step()
    stage.late("e", hours=1)
    assert runner.step()[1] == 1
    [(args, kwargs)] = stage.rows("select args, kwargs from pgtasks.jobs")
    assert args == "[1]" and "2026-01-01" in kwargs

    runner.app.crons.update("e", args=[2], schedule="@every 30m")
    stage.late("e", minutes=31)
    runner.step()
    assert stage.rows("select args from pgtasks.jobs order by id")[-1] == ("[2]",)
    runner.app.crons.delete("e")
    runner.wake()
    runner.step()
    assert not runner.leads, "there is nothing left to lead"


def test_a_pause_holds_through_deploys_and_what_was_missed_is_not_made_up_for(stage: Stage):
    runner = stage.runner({"e": every(3600, catch_up="all")})
    runner.app.crons.pause("e")
    runner.step()
    stage.late("e", hours=5)
    assert runner.step()[1] == 0
    runner.close()
    again = stage.runner({"e": every(1800, catch_up="all")})
    again.step()
    stage.late("e", hours=5)
    assert again.step()[1] == 0

    again.app.crons.resume("e")
    again.wake()
    assert again.step()[1] == 0
    stage.late("e", hours=1)
    assert again.step()[1] == 2


def test_thousands_that_are_due_at_once_are_sent_in_pieces(stage: Stage):
    given = {f"e{number}": every(3600) for number in range(2000)}
    runner = stage.runner(given)
    runner.step()
    stage.rows(
        "update pgtasks.crons set last_tick = clock_timestamp() - interval '1 h', "
        "revision = revision + 1"
    )
    runner.wake()
    count = 0

    def all_sent() -> bool:
        nonlocal count
        count += runner.step()[1]
        return count == 2000

    eventually(all_sent, timeout=60)
    assert stage.rows("select count(*), count(distinct task_id) from pgtasks.jobs") == [
        (2000, 2000)
    ]


def test_queries_of_a_transaction_are_rolled_back_together(stage: Stage):
    database = stage.app({}).database
    insert = Query(
        "insert into pgtasks.crons (name, source) values (%(name)s::text, 'table')",
        {"name": "x"},
        list,
    )

    def twice() -> None:
        with database.transaction() as session:
            borrowed.run(insert, on=session)
            borrowed.run(insert, on=session)

    with pytest.raises(StorageError):
        twice()
    with database.transaction() as session:
        borrowed.run(insert, on=session)

    assert stage.rows("select count(*) from pgtasks.crons") == [(1,)]


def test_a_tick_that_could_not_be_committed_is_not_lost(stage: Stage, monkeypatch):
    runner = stage.runner({"e": every(1, catch_up="all")})
    runner.step()
    stage.late("e", seconds=5)
    real = Database.transaction

    def broken(self):
        @contextmanager
        def lost():
            with real(self) as session:
                yield session
                raise StorageUnavailable("the server went away", sqlstate=None)

        return lost()

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", broken)
        with pytest.raises(StorageUnavailable):
            runner.step()
    assert stage.jobs() == []
    runner.step()

    assert len(stage.jobs()) >= 5


def test_a_worker_inside_of_a_test_sends_no_schedule(stage: Stage):
    from pgtasks.contrib.testing.worker import start_worker

    app = stage.app({"e": every(0.05)})
    with start_worker(app, perform_ping_check=False, pool="threads") as worker:
        names = {service.name for service in worker._services}

    assert "plugin pruner" in names
    assert "plugin cron" not in names


def test_what_another_scheduler_has_sent_is_taken_over_once(stage: Stage):
    runner = stage.runner({"e": every(3600), "new": every(3600)})
    now = datetime.now(timezone.utc)
    told = {
        "e": (now - timedelta(minutes=59), 7),
        "gone": now,
        "new": now + timedelta(days=1),
    }
    assert runner.app.crons.adopt(told) == ["e"]
    runner.step()
    assert stage.jobs() == [], "it was sent less than an hour ago"

    assert runner.app.crons.adopt({"e": now - timedelta(minutes=61)}) == []
    stage.rows("delete from pgtasks.crons")
    runner.wake()
    runner.step()
    # Also where a worker has begun with it before.
    again = stage.runner({"e": every(3600), "other": every(3600)})
    again.step()
    assert runner.app.crons.adopt({"e": now - timedelta(minutes=61)}) == ["e"]
    again.wake()
    again.step()

    assert len(stage.jobs("e")) == 1
    assert stage.rows("select runs from pgtasks.crons where name = 'e'") == [(2,)]
