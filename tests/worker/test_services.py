"""The worker's services, each by itself on a real database."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from helpers import eventually
from pgtasks.job import Job, NewJob, Outcome
from pgtasks.storage import jobs, mailbox, results, workers
from pgtasks.storage.database import Database
from pgtasks.storage.errors import StorageUnavailable
from pgtasks.storage.query import Query
from pgtasks.worker import fetcher as fetcher_module
from pgtasks.worker import identity
from pgtasks.worker.acker import Acker
from pgtasks.worker.begun import BegunFile
from pgtasks.worker.fetcher import Fetcher
from pgtasks.worker.gates import Gatekeeper
from pgtasks.worker.lifeline import Lifeline
from pgtasks.worker.pools.base import AHEAD, MOST_AHEAD, Pace
from pgtasks.worker.stager import Stager


class Bench:
    """A registered worker and its database."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.begun = BegunFile(str(uuid.uuid4()), 1)
        self.taken: list[Job] = []
        self.room = 10
        self.register(self.begun.worker)
        self.begun.renewed_at = identity.boottime()

    def register(self, id: str, **given) -> None:
        fields = {
            "name": "celery@test", "hostname": "test", "pid": 1, "machine": "elsewhere",
            "process_started": 1.0, "begun_file": None, "lease": 20.0, "queues": ["celery"],
            "pool": "prefork", "concurrency": 1, "version": "0", "info": {},
        }  # fmt: skip
        self.database.run(workers.register(id=id, **{**fields, **given}))

    def fetcher(self, **given) -> Fetcher:
        fields = {
            "demand": lambda: self.room,
            "submit": self.taken.extend,
            "begun": self.begun,
            "lease": 20.0,
            "rerunnable": list,
            "poll_interval": 0.2,
            "gates": Gatekeeper(None, {}),
            "node": "celery@test",
        }
        return Fetcher(
            given.pop("database", self.database), ["celery"], **{**fields, **given}
        )

    def lifeline(self, lease: float = 20.0) -> Lifeline:
        return Lifeline(
            self.database,
            worker=lambda: self.begun.worker,
            held=lambda: {job.id for job in self.taken},
            on_abandoned=lambda job: None,
            on_rescued=lambda: None,
            lease=lease,
        )

    def insert(self, *task_ids: str, **fields) -> None:
        self.database.run(
            jobs.insert([NewJob("t", task_id, **fields) for task_id in task_ids])
        )

    def state(self, task_id: str) -> str:
        return self.database.run(results.read([task_id]))[task_id].state


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    bench = Bench(database_url)
    yield bench
    bench.begun.close()
    bench.begun.remove()
    bench.database.close()


class Flaky:
    """A database that runs a claim, and then loses its answer."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.losses = 1

    def run(self, query: Query, **options):
        answer = self.database.run(query, **options)
        if query.read is jobs._most_urgent_first and self.losses:
            self.losses -= 1
            raise StorageUnavailable("the answer was lost", sqlstate=None)
        return answer


def test_a_fetcher_that_sleeps_for_long_still_turns(bench, monkeypatch):
    # What does not turn for a lease has no heartbeat, and is declared dead by others.
    monkeypatch.setattr(fetcher_module, "DRIFT", 0.0)
    fetcher = bench.fetcher(listening=lambda: True, watched=lambda: True)
    fetcher.start()
    eventually(lambda: fetcher.asleep)
    # As after an hour without jobs: it claims once a minute.
    fetcher._asleep_at -= 3600
    eventually(lambda: time.time() - fetcher.last_fetch_at > 1.0)
    claimed, turned = fetcher.last_fetch_at, bench.begun.turned_at

    eventually(lambda: bench.begun.turned_at > turned)
    assert fetcher.last_fetch_at == claimed
    fetcher.stop()
    assert fetcher.join(10)


def test_a_claim_whose_answer_was_lost_is_asked_for_again(bench: Bench):
    bench.insert("a", "b")
    fetcher = bench.fetcher(database=Flaky(bench.database))

    fetcher.start()
    eventually(lambda: len(bench.taken) == 2)
    fetcher.stop()
    fetcher.join()

    assert {job.task_id for job in bench.taken} == {"a", "b"}
    assert {job.attempt for job in bench.taken} == {1}


def test_a_full_pool_is_given_nothing_more(bench: Bench):
    bench.room = 3
    bench.insert(*"abcdef")
    fetcher = bench.fetcher(
        submit=lambda jobs: (bench.taken.extend(jobs), setattr(bench, "room", 0))
    )

    fetcher.start()
    eventually(lambda: len(bench.taken) == 3)
    fetcher.stop()
    fetcher.join()

    assert len(bench.taken) == 3


def test_nothing_is_claimed_under_a_lease_that_may_have_ended(bench: Bench):
    bench.begun.renewed_at = identity.boottime() - 17
    fetcher = bench.fetcher()

    assert fetcher._demand() == 0


def test_an_idle_worker_falls_asleep_and_a_notification_would_wake_it(bench: Bench):
    fetcher = bench.fetcher(poll_interval=60.0)
    fetcher.start()
    eventually(lambda: fetcher.asleep)
    with psycopg.connect(bench.database.url, autocommit=True) as listener:
        listener.execute('listen "pgtasks.jobs"')
        bench.insert("a")
        heard = next(listener.notifies(timeout=5)).payload
    fetcher.wakeup.set()
    eventually(lambda: bench.taken)
    still_asleep = fetcher.asleep
    fetcher.stop()
    fetcher.join()

    assert heard == "celery"
    assert still_asleep, "one job now and then is cheaper to be told of than to look for"


def test_who_brings_the_news_claims_in_the_place_of_a_sleeping_worker(bench: Bench):
    fetcher = bench.fetcher()
    bench.insert("a")
    fetcher.heed()
    awake = list(bench.taken)
    fetcher._asleep = True
    fetcher.heed()
    asleep = list(bench.taken)
    fetcher.stop()
    bench.insert("b")
    fetcher.heed()

    assert not awake, "its own thread does it"
    assert [job.task_id for job in asleep] == ["a"]
    assert bench.taken == asleep, "nothing is begun when the worker ends"


def test_who_brings_news_does_not_wait_for_a_database_that_is_in_trouble(bench: Bench):
    fetcher = bench.fetcher(database=Flaky(bench.database), poll_interval=60.0)
    fetcher._asleep = True
    bench.insert("a")
    fetcher.heed()
    fetcher.heed()
    meanwhile = list(bench.taken)
    fetcher.start()
    eventually(lambda: bench.taken)
    fetcher.stop()
    fetcher.join()

    assert not meanwhile, "the next try is the thread's, after its pause"
    assert bench.taken[0].attempt == 1


def test_a_worker_whose_jobs_come_thick_and_fast_wants_no_notifications(bench: Bench):
    bench.room = 1
    fetcher = bench.fetcher(poll_interval=60.0)
    fetcher.start()
    eventually(lambda: fetcher.asleep)

    bench.insert(*[str(number) for number in range(20)])
    fetcher.wakeup.set()
    eventually(lambda: not fetcher.asleep)
    eventually(lambda: len(bench.taken) == 20)
    eventually(lambda: fetcher.asleep)
    fetcher.stop()
    fetcher.join()


def test_acks_wait_out_an_outage_and_bad_ones_fail_alone(bench: Bench, monkeypatch):
    monkeypatch.setattr("pgtasks.worker.acker.random.uniform", lambda low, high: 0.01)
    bench.insert("good", "bad", "late")
    claimed = bench.database.run(
        jobs.fetch(
            {"celery": jobs.LOWEST},
            demand=3,
            worker=bench.begun.worker,
            token=str(uuid.uuid4()),
        )
    ).jobs
    settled: list[int] = []
    outages = 3

    class Outage:
        def run(self, query: Query, **options):
            nonlocal outages
            if outages:
                outages -= 1
                raise StorageUnavailable("gone", sqlstate=None)
            return bench.database.run(query, **options)

    acker = Acker(Outage(), lambda batch: settled.extend(each.id for each in batch))
    for job in claimed:
        result = "\0" if job.task_id == "bad" else "1"
        outcome = Outcome(job.id, job.claim_token, "completed", result=result)
        acker.put(jobs.settle(outcome, job.task_id))
    acker.start()

    assert acker.flush(10)
    acker.stop()
    acker.join()
    assert [bench.state(each) for each in ("good", "bad", "late")] == [
        "completed", "discarded", "completed",
    ]  # fmt: skip
    assert sorted(settled) == sorted(job.id for job in claimed)


def test_a_claim_in_passing_is_lent_only_where_nothing_waits(bench: Bench):
    fetcher = bench.fetcher()
    assert fetcher.lend(1) is None, "nobody has looked yet"

    fetcher.start()
    eventually(lambda: fetcher.dry)
    assert fetcher.lend(10) is not None
    assert fetcher.lend(11) is None, "there is room for ten"
    bench.room = 0
    assert fetcher.lend(1) is None
    fetcher.wakeup.set()
    eventually(lambda: not fetcher.dry)
    bench.room = 1
    bench.insert("a", "b")
    fetcher.wakeup.set()
    eventually(lambda: bench.taken)

    assert fetcher.lend(1) is None, "others may wait"
    fetcher.stop()
    fetcher.join()
    assert fetcher.lend(1) is None


@pytest.fixture
def link(bench: Bench) -> jobs.Settlement:
    """The end of a claimed job that another one follows."""
    bench.insert("first")
    query = jobs.fetch(
        {"celery": jobs.LOWEST},
        demand=1,
        worker=bench.begun.worker,
        token=str(uuid.uuid4()),
    )
    [job] = bench.database.run(query).jobs
    follow_ups = [NewJob("t", "second")]
    done = Outcome(job.id, job.claim_token, "completed", follow_ups=follow_ups)
    return jobs.settle(done, job.task_id)


def test_the_next_link_of_a_chain_begins_with_the_end_of_the_one_before(
    bench: Bench, link: jobs.Settlement
):
    told: list[set[str]] = []
    fetcher = bench.fetcher()
    fetcher.start()
    eventually(lambda: fetcher.dry and fetcher.asleep)
    acker = Acker(bench.database, lambda batch: None, told.append, claims=fetcher)

    acker.put(link)
    acker.start()
    eventually(lambda: bench.taken)
    acker.stop()
    acker.join()
    fetcher.stop()
    fetcher.join()

    assert [job.task_id for job in bench.taken] == ["second"]
    assert told == [], "there is nothing left for a claim"


def test_a_link_whose_claim_was_not_answered_is_asked_for(
    bench: Bench, link: jobs.Settlement, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pgtasks.worker.acker.random.uniform", lambda low, high: 0.01)

    class Unheard:
        answers = 0

        def run(self, query: Query, **options):
            answer = bench.database.run(query, **options)
            self.answers += 1
            if self.answers == 1:
                raise StorageUnavailable("the answer was lost", sqlstate=None)
            return answer

    fetcher = bench.fetcher()
    fetcher.start()
    eventually(lambda: fetcher.dry)
    acker = Acker(Unheard(), lambda batch: None, claims=fetcher)

    acker.put(link)
    acker.start()
    assert acker.flush(10)
    eventually(lambda: bench.taken)
    for service in (acker, fetcher):
        service.stop()
        service.join()

    assert [job.task_id for job in bench.taken] == ["second"]
    assert acker.refused == 0


def test_due_jobs_are_staged_in_time_for_the_next_one(bench: Bench):
    bench.insert("soon", delay=0.2)
    staged: list[float] = []
    stager = Stager(
        bench.database,
        worker=lambda: bench.begun.worker,
        on_staged=lambda: staged.append(1.0),
        is_busy=lambda: False,
        poll_interval=30.0,
    )

    stager.start()
    eventually(lambda: staged, timeout=5)
    stager.stop()
    stager.join()

    assert bench.state("soon") == "available"


def test_one_look_tells_of_everything_there_is_to_do(bench: Bench):
    def look() -> workers.Look:
        return bench.database.run(
            workers.look(bench.begun.worker, name="celery@test", queues=["celery"])
        )

    idle = look()
    bench.insert("ready")
    bench.insert("later", delay=60.0)
    with psycopg.connect(bench.database.url, autocommit=True) as connection:
        connection.execute(
            "insert into pgtasks.jobs (task, task_id, state, worker, claim_token, attempted_at) "
            "values ('t', 'lost', 'executing', gen_random_uuid(), gen_random_uuid(), now()), "
            "('t', 'mine', 'executing', %s, gen_random_uuid(), now() - interval '2 s')",
            [bench.begun.worker],
        )
        connection.execute(
            "insert into pgtasks.chords (id, remaining, inserted_at) "
            "values ('forgotten', 1, now() - interval '1 minute')"
        )
    bench.database.run(
        mailbox.send(
            "ping", "{}", key=str(uuid.uuid4()), destination=["celery@test"],
            wants_reply=False, sender="1@test", lifetime=60.0,
        )
    )  # fmt: skip
    busy = look()

    assert [each.id for each in idle.workers] == [bench.begun.worker]
    assert idle[:6] == (False, False, False, False, None, False)
    assert busy._replace(due=None, workers=[])[:6] == (True, True, True, True, None, True)
    assert busy.due is not None and 50 < busy.due <= 60


def test_a_worker_for_whom_somebody_looks_around_claims_seldom(bench: Bench, monkeypatch):
    monkeypatch.setattr("pgtasks.worker.fetcher.DRIFT", 0.0)
    asked: list[float] = []

    class Counted:
        def run(self, query: Query, **options):
            if query.read is jobs._most_urgent_first:
                asked.append(time.monotonic())
            return bench.database.run(query, **options)

    fetcher = bench.fetcher(database=Counted(), poll_interval=0.01, watched=lambda: True)
    fetcher.start()
    eventually(lambda: fetcher.asleep)
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + 2.0)
    seldom = len([each for each in asked if each > began])
    bench.insert("a")
    fetcher.heed()
    told = time.monotonic()
    eventually(lambda: [each for each in asked if each > told], timeout=2)
    fetcher.stop()
    fetcher.join()

    assert [job.task_id for job in bench.taken] == ["a"]
    assert seldom <= 4, "every 10 ms without"


def test_who_looks_around_is_fresh_while_the_database_answers(bench: Bench):
    seen: list[workers.Look] = []
    lifeline = Lifeline(
        Flaky(bench.database),
        worker=lambda: bench.begun.worker,
        held=set,
        on_abandoned=lambda job: None,
        on_rescued=lambda: None,
        lease=0.4,
        sweeps=False,
        on_look=seen.append,
    )
    before = lifeline.fresh
    lifeline.start()
    eventually(lambda: len(seen) > 2)
    meanwhile = lifeline.fresh
    lifeline.stop()
    lifeline.join()

    assert (before, meanwhile, lifeline.fresh) == (False, True, False)


def test_a_lease_that_ended_is_no_verdict_while_the_heart_may_still_beat(bench: Bench):
    other = str(uuid.uuid4())
    bench.register(other, lease=0.2)
    lifeline = bench.lifeline()
    eventually(lambda: any(each.lapsed for each in bench.database.run(workers.live())))

    # Seen for the first time: the server may have been away, not the worker (R14).
    lifeline.sweep()
    assert bench.database.run(workers.beat(other))

    def buried() -> bool:
        lifeline.sweep()
        return other not in {each.id for each in bench.database.run(workers.live())}

    eventually(buried)


def test_a_process_that_is_gone_from_this_machine_is_dead_at_once(bench: Bench):
    other = str(uuid.uuid4())
    bench.register(
        other, lease=3600.0, machine=identity.machine(), pid=2**22 - 1, process_started=1.0
    )

    bench.lifeline().sweep()

    assert other not in {each.id for each in bench.database.run(workers.live())}


def test_the_audit_gives_back_what_we_hold_without_knowing_after_two_looks(bench: Bench):
    bench.insert("known", "unknown")
    claimed = bench.database.run(
        jobs.fetch(
            {"celery": jobs.LOWEST},
            demand=2,
            worker=bench.begun.worker,
            token=str(uuid.uuid4()),
        )
    ).jobs
    bench.taken = [job for job in claimed if job.task_id == "known"]
    with psycopg.connect(bench.database.url, autocommit=True) as connection:
        connection.execute("update pgtasks.jobs set attempted_at = now() - interval '5 s'")
    lifeline = bench.lifeline()

    lifeline.audit()
    once = bench.state("unknown")
    lifeline.audit()

    assert once == "executing"
    assert bench.state("unknown") == "available"
    assert bench.state("known") == "executing"


def test_the_pace_rises_at_once_and_falls_slowly():
    pace = Pace()
    for _ in range(200):
        pace.note(0.00002)
    assert pace.ahead == MOST_AHEAD

    pace.note(1.0)
    assert pace.ahead == 1
    for _ in range(10):
        pace.note(0.00002)
    assert pace.ahead == 1
    for _ in range(60):
        pace.note(0.00002)
    assert pace.ahead > 1
    assert pace.seconds < AHEAD
