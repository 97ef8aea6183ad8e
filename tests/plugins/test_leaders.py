"""One leader at a time, each for a term, and nothing is done under an old one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from helpers import eventually
from pgtasks import telemetry
from pgtasks.storage import leaders, pruning, upkeep
from pgtasks.storage.database import Database
from pgtasks.storage.leaders import Seat
from pgtasks.storage.notifier import Notifier
from pgtasks.worker.leader import Leader

RULES = '{"states": {"completed": "1.0"}, "queues": {}, "tasks": {}}'


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=20)
    yield database
    database.close()


@pytest.fixture
def execute(database_url: str) -> Iterator:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection.execute


def stand(database: Database, office: str = "plugins", lease: float = 30.0):
    return database.run(
        leaders.stand(office, holder=str(uuid4()), node="celery@test", lease=lease)
    )


def elected(database: Database, **given) -> Seat:
    seat = stand(database, **given).seat
    assert seat is not None
    return seat


def lapse(execute) -> None:
    execute("update pgtasks.leaders set expires_at = now() - interval '1 ms'")


def test_of_many_that_stand_at_once_one_is_elected(database: Database):
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: stand(database), range(64)))

    seats = [each.seat for each in found if each is not None and each.seat is not None]
    assert [seat.term for seat in seats] == [1]
    assert all(each.node == "celery@test" for each in found if each is not None)


def test_who_does_not_lead_is_told_who_does_and_for_how_long(database: Database):
    elected(database)
    again = stand(database)

    assert (again.term, again.node, again.seat) == (1, "celery@test", None)
    assert 25 < again.remaining <= 30


def test_a_term_that_has_lapsed_is_followed_by_the_next(database: Database, execute):
    first = elected(database)
    lapse(execute)
    second = elected(database)

    assert (first.term, second.term) == (1, 2)
    assert not database.run(leaders.renew(first))
    assert database.run(leaders.renew(second))


def test_a_term_that_nobody_has_followed_goes_on(database: Database, execute):
    seat = elected(database)
    lapse(execute)

    assert database.run(leaders.renew(seat))
    assert stand(database).seat is None


def test_a_leader_that_has_resigned_does_nothing_more_in_its_term(database: Database):
    seat = elected(database)
    database.run(leaders.resign(seat))

    # As a plugin that was just at it when the worker stopped.
    assert not database.run(upkeep.keep(seat, "jobs", {}))
    assert not database.run(leaders.renew(seat))
    assert elected(database).term == 2


def test_offices_know_nothing_of_each_other(database: Database):
    plugins, beat = elected(database), elected(database, office="beat")
    database.run(leaders.resign(plugins))

    assert database.run(leaders.renew(beat))
    assert {each.office: each.sits for each in database.run(leaders.sitting())} == {
        "beat": True,
        "plugins": False,
    }


def test_a_term_that_a_failover_repeats_is_another_one(database: Database, execute):
    lost = elected(database)
    execute("delete from pgtasks.leaders")
    again = elected(database)

    assert lost.term == again.term
    assert not database.run(leaders.renew(lost))


def test_nothing_of_what_leaders_do_is_done_under_an_old_term(database: Database, execute):
    old = elected(database)
    database.run(leaders.resign(old))
    new = elected(database)
    execute(
        "insert into pgtasks.finished_jobs (id, scheduled_at, inserted_at, finished_at, state, "
        "attempt, retries, crashes, lost, priority, task, task_id, queue, args, kwargs, "
        "errors, meta, tags) values (1, now(), now(), now() - interval '1 day', 'completed', "
        "1, 0, 0, 0, 0, 't', 'old', 'q', '[]', '{}', '[]', '{}', '{}')"
    )
    execute("insert into pgtasks.saved_groups values ('g', '[]', now() - interval '1 day')")
    execute(
        "insert into pgtasks.cron_ticks (entry, tick) "
        "values ('e', now() - interval '2 days'), ('e', now())"
    )
    execute(
        "insert into pgtasks.commands (expires_at, key, wants_reply, command, arguments, sender) "
        "values (now() - interval '1 day', gen_random_uuid(), false, 'ping', '{}', 's')"
    )
    execute("insert into pgtasks.revoked_tasks values ('old', now() - interval '1 day')")
    execute(
        "insert into pgtasks.workers (id, name, hostname, pid, machine, process_started, lease, "
        "expires_at, dead_at, queues, pool, concurrency, version) values (gen_random_uuid(), "
        "'w', 'h', 1, 'm', 1, 1, now(), now() - interval '2 days', '{}', 'solo', 1, '0')"
    )

    def all_that_leaders_do(seat: Seat) -> list:
        walked = database.run(pruning.prune(seat, age=1.0, key="1.0", rules=RULES))
        return [
            (walked.pruned, walked.led),
            database.run(pruning.prune_groups(seat, 60.0)),
            database.run(pruning.prune_ticks(seat, 60.0)),
            database.run(pruning.prune_mail(seat)),
            database.run(pruning.prune_revocations(seat, 60.0)),
            database.run(pruning.prune_workers(seat, 60.0)),
            database.run(upkeep.keep(seat, "jobs", {})),
            database.run(leaders.renew(seat)),
            database.run(leaders.resign(seat)),
        ]

    assert all_that_leaders_do(old) == [(0, False), 0, 0, 0, 0, 0, False, False, False]
    assert all_that_leaders_do(new) == [(1, True), 1, 1, 1, 1, 1, True, True, True]


def test_a_successor_waits_for_what_the_leader_is_just_doing(
    database: Database, database_url: str, execute
):
    seat = elected(database)
    lapse(execute)
    with psycopg.connect(database_url) as acting, ThreadPoolExecutor(1) as threads:
        renewed = acting.execute(
            "update pgtasks.leaders set expires_at = now() + interval '30 s' "
            "where office = %s and term = %s and holder = %s returning term",
            seat[:3],
        ).fetchall()
        standing = threads.submit(stand, database)
        eventually(
            lambda: execute(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            ).fetchone()[0]
        )
        waited = not standing.done()
        acting.commit()
        found = standing.result(10)

    assert renewed and waited
    assert found.seat is None, "the term went on with what was done"
    assert database.run(leaders.renew(seat))


# ── the service ─────────────────────────────────────────────────────────────────────────


class Bench:
    """Leaders of one fleet, each as if in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.services: list[Leader] = []
        self.closing: list = []

    def candidate(self, node: str, lease: float = 30.0, **given) -> Leader:
        database = Database(self.url)
        notifier = Notifier(database)
        holder = str(uuid4())
        fields = {"holder": lambda: holder, "office": "plugins", **given}
        leader = Leader(database, notifier, node=node, lease=lease, **fields)
        self.services.append(leader)
        self.closing += [notifier, database]
        return leader

    def close(self) -> None:
        for service in self.services:
            service.stop()
        for service in self.services:
            service.join(10)
        for each in self.closing:
            each.close()


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    bench = Bench(database_url)
    yield bench
    bench.close()


def test_a_clean_stop_hands_over_at_once(bench: Bench):
    first, second = bench.candidate("first"), bench.candidate("second")
    first.start()
    eventually(lambda: first.seat)
    second.start()
    eventually(lambda: second._notifier.listening)

    first.stop()
    # Its term would last for half a minute.
    seat = eventually(lambda: second.seat, timeout=5)
    assert (seat.term, first.seat) == (2, None)


def test_a_leader_that_is_silent_is_followed_after_its_lease(
    bench: Bench, database_url: str
):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into pgtasks.leaders (office, term, holder, node, expires_at) values "
            "('plugins', 41, gen_random_uuid(), 'gone', clock_timestamp() + interval '0.5 s')"
        )
    leader = bench.candidate("next", lease=2.0)
    leader.start()

    assert eventually(lambda: leader.seat, timeout=5).term == 42


def test_a_leader_under_a_new_id_stands_anew(bench: Bench):
    ids = [str(uuid4())]
    leader = bench.candidate("one", lease=0.6, holder=lambda: ids[-1])
    leader.start()
    first = eventually(lambda: leader.seat)
    ids.append(str(uuid4()))
    leader.wakeup.set()

    second = eventually(lambda: leader.seat if leader.seat != first else None)
    assert (second.term, second.holder) == (2, ids[-1])


def test_whether_one_leads_is_believed_no_longer_than_the_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    from pgtasks.worker import leader as module

    leader = bench.candidate("one")
    leader.start()
    eventually(lambda: leader.seat)
    now = module.boottime()
    monkeypatch.setattr(module, "boottime", lambda: now + 31)

    assert leader.seat is None


def test_elections_are_told_of(bench: Bench):
    told: list[dict] = []
    telemetry.attach(
        "test",
        "pgtasks.peer.election.stop",
        lambda event, numbers, known, _: told.append(known),
    )
    try:
        leader = bench.candidate("celery@one", lease=0.3)
        leader.start()
        eventually(lambda: len(told) > 1)
    finally:
        telemetry.detach("test")

    known = {"office": "plugins", "node": "celery@one", "elected": "celery@one"}
    assert told[0] == {**known, "was_leader": False, "leader": True, "term": 1}
    assert told[1] == {**known, "was_leader": True, "leader": True, "term": 1}
