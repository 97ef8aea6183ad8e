"""The effects of transactional tasks are there exactly once, whatever dies in between."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator

import pytest

from fleet import Fleet, Proxy
from helpers import children, eventually
from pgtasks import Celery, chord
from pgtasks.job import NewJob
from pgtasks.storage import jobs

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

# At full size 2,000 and 30, which takes two minutes.
DEPOSITS = int(os.environ.get("EXACTLY_ONCE_DEPOSITS", "300"))
KILLS = int(os.environ.get("EXACTLY_ONCE_KILLS", "6"))
POOLS = ["prefork", "threads", "solo"]


class Bank:
    """The account, its receipts, and the fleet that serves it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        fleet.query("create table public.account (balance bigint)")
        fleet.query("insert into public.account values (0)")
        # Each at most once, were it not for the task: so what is done twice is seen.
        fleet.query("create table public.receipts (id text)")
        fleet.query("create table public.told (id text)")

    def start(self, *options: str, url: str | None = None):
        return self.fleet.start("-Q", "journey", *options, url=url, app="bank")

    def insert(self, task: str, amounts: list[int], pause: float = 0.0) -> list[str]:
        new = [
            NewJob(
                f"bank.{task}", f"{task}-{number}", queue="journey", args=json.dumps(args)
            )
            for number, args in enumerate(
                [amount, pause] if pause else [amount] for amount in amounts
            )
        ]
        self.fleet.database.run(jobs.insert(new), retry=True)
        return [job.task_id for job in new]

    def balance(self) -> int:
        [(balance,)] = self.fleet.query("select balance from public.account")
        return balance

    def ids(self, table: str) -> list[str]:
        query = f"select id from public.{table} order by id"
        return [id for (id,) in self.fleet.query(query)]

    def told(self) -> None:
        """Wait until all that was sent inside of the transactions is done."""
        eventually(
            lambda: self.fleet.query("select count(*) from pgtasks.jobs") == [(0,)],
            timeout=60,
        )

    def close(self) -> None:
        self.fleet.query("drop table public.account, public.receipts, public.told")


@pytest.fixture
def bank(fleet: Fleet) -> Iterator[Bank]:
    bank = Bank(fleet)
    yield bank
    # Before the tables go, for a worker may be in the middle of a deposit.
    fleet.close()
    bank.close()


def test_the_balance_is_exact_though_workers_are_killed_again_and_again(bank: Bank):
    fleet = bank.fleet
    dice = random.Random(4)
    amounts = [dice.randrange(1, 1000) for _ in range(DEPOSITS)]
    # Long enough that each kill falls into the middle of some.
    pause = 0.01
    half = DEPOSITS // 2
    ids = bank.insert("deposit", amounts[:half], pause)
    ids += bank.insert("deposit_by_session", amounts[half:], pause)
    worker = bank.start("-c", "4")
    interrupted = 0

    for kill in range(KILLS):
        mark = (kill + 1) * DEPOSITS // (KILLS + 2)
        eventually(lambda mark=mark: fleet.finished(ids) >= mark, timeout=60)
        victims = children(worker.pid)
        how = kill % 3
        if how == 0:
            os.killpg(worker.pid, signal.SIGKILL)
        elif how == 1:
            worker.kill()
        else:
            for victim in victims[:2]:
                os.kill(victim, signal.SIGKILL)
        interrupted += len(victims)
        if how != 2:
            worker.wait()
            worker = bank.start("-c", "4")

    states = fleet.wait(ids, timeout=240)
    bank.told()

    assert set(states.values()) == {"completed"}
    assert bank.balance() == sum(amounts)
    assert bank.ids("receipts") == sorted(ids)
    assert bank.ids("told") == sorted(ids)
    [(again,)] = fleet.query(
        "select count(*) from pgtasks.finished_jobs where crashes + lost > 0"
    )
    assert again > 0, "no kill has fallen into a deposit"


@pytest.mark.parametrize("pool", POOLS)
def test_every_backend_terminated_in_the_middle(bank: Bank, pool: str):
    fleet = bank.fleet
    ids = bank.insert("deposit", [1] * 150, 0.005)
    bank.start("-c", "2", "-P", pool)
    lost = 0
    for mark in (20, 60, 100):
        eventually(lambda mark=mark: fleet.finished(ids) >= mark)
        lost += len(
            fleet.query(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name like 'pgtasks%%'"
            )
        )

    states = fleet.wait(ids, timeout=60)
    bank.told()

    # Some have lost their connection, and nothing of them was left: so they ran again.
    assert set(states.values()) == {"completed"}
    assert bank.balance() == 150
    assert bank.ids("receipts") == bank.ids("told") == sorted(ids)
    assert lost > 0


def test_an_immediate_restart_of_the_server_in_the_middle(bank: Bank, postgres):
    if not hasattr(postgres, "restart"):
        pytest.skip("the server of PGTASKS_TEST_DSN is not ours to restart")
    fleet = bank.fleet
    ids = bank.insert("deposit", [1] * 150, 0.005)
    bank.start("-c", "2")
    eventually(lambda: fleet.finished(ids) >= 40)

    postgres.restart("immediate")
    states = fleet.wait(ids, timeout=60)
    bank.told()

    assert set(states.values()) == {"completed"}
    assert bank.balance() == 150
    assert bank.ids("receipts") == bank.ids("told") == sorted(ids)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    "task", ["deposit", "deposit_by_session", "deposit_by_coroutine", "complete_by_hand"]
)
def test_each_form_in_each_pool(bank: Bank, pool: str, task: str):
    bank.start("-c", "2", "-P", pool)
    ids = bank.insert(task, list(range(20)))

    states = bank.fleet.wait(ids)

    assert set(states.values()) == {"completed"}
    assert bank.balance() == sum(range(20))
    results = bank.fleet.query(
        "select result from pgtasks.finished_jobs where queue = 'journey' and task like %s",
        f"bank.{task}",
    )
    assert sorted(result for (result,) in results) == sorted(map(str, range(20)))


def test_a_process_that_dies_before_the_commit_has_done_nothing(bank: Bank):
    bank.start("-c", "2")
    ids = bank.insert("deposit_and_die", [5, 7])

    states = bank.fleet.wait(ids)

    assert set(states.values()) == {"completed"}
    assert bank.balance() == 12
    assert bank.ids("receipts") == sorted(ids)
    rows = bank.fleet.query("select attempt, crashes from pgtasks.finished_jobs")
    assert rows == [(2, 1)] * 2


@pytest.mark.parametrize("pool", POOLS)
def test_a_lost_answer_to_the_commit_settles_and_runs_nothing_twice(bank: Bank, pool: str):
    proxy = Proxy(bank.fleet.url)
    bank.start("-c", "1", "-P", pool, url=proxy.url)
    proxy.lose_answer_with = b"COMMIT\x00"

    ids = bank.insert("deposit", [3, 4, 5])
    states = bank.fleet.wait(ids)
    bank.told()
    proxy.close()

    assert proxy.lost == 1
    assert set(states.values()) == {"completed"}
    assert bank.balance() == 12
    assert bank.ids("receipts") == sorted(ids)
    assert bank.fleet.query("select distinct attempt from pgtasks.finished_jobs") == [(1,)]
    assert "is settled, but behind its commit came an error" in bank.fleet.log(0)


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_that_wakes_up_too_late_rolls_back(bank: Bank, pool: str):
    fleet = bank.fleet
    sleeper = bank.start("-c", "1", "-P", pool)
    [id] = bank.insert("deposit", [9], 0.7)
    query = (
        "select count(*) from pg_stat_activity "
        "where query like '%%receipts values%%' and state like 'idle in tr%%'"
    )
    eventually(lambda: fleet.query(query) == [(1,)])
    group = [sleeper.pid, *children(sleeper.pid)]

    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    bank.start("-c", "1", "-P", pool)
    fleet.wait([id])
    for pid in group:
        os.kill(pid, signal.SIGCONT)

    eventually(lambda: "rolled back" in fleet.log(0), message=lambda: fleet.log(0))
    bank.told()
    assert bank.balance() == 9
    assert bank.ids("receipts") == bank.ids("told") == [id]
    # What was sent meanwhile is served by both, the sleeper as well.
    more = bank.insert("deposit_by_session", [1] * 20)
    fleet.wait(more)
    assert bank.balance() == 29


def test_work_flows_of_transactional_tasks_go_on_by_their_commits(bank: Bank):
    bank.start("-c", "2")
    with Celery("caller", broker=bank.fleet.url, set_as_current=False) as app:
        deposits = [
            app.signature("bank.deposit", (amount,), queue="journey")
            for amount in range(10)
        ]
        total = app.signature("bank.sum_up", queue="journey")
        result = chord(deposits, app=app)(total)

        assert result.get(timeout=20) == 45
    bank.told()
    assert bank.balance() == 90


def test_a_time_limit_undoes_what_was_done(bank: Bank):
    bank.start("-c", "1")
    [id] = bank.insert("deposit_too_slowly", [5])

    states = bank.fleet.wait([id])

    assert states == {id: "discarded"}
    assert bank.fleet.errors(id)[-1]["kind"] == "TimeLimitExceeded"
    assert (bank.balance(), bank.ids("receipts")) == (0, [])
    # Nobody holds the account any more.
    more = bank.insert("deposit", [1])
    bank.fleet.wait(more)
    assert bank.balance() == 1
