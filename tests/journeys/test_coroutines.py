"""Coroutines as tasks: hundreds of them on the loop of one worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ensemble import PATIENCE, Ensemble, ensemble
from helpers import eventually
from pgtasks import chain, chord, group
from pgtasks.exceptions import TaskRevokedError, TimeLimitExceeded

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def choir(module_database: str, tmp_path_factory: Any) -> Iterator[Ensemble]:
    folder = tmp_path_factory.mktemp("choir")
    with ensemble(module_database, folder, "-P", "asyncio", "-c", "500") as choir:
        yield choir


def test_five_hundred_wait_side_by_side(choir: Ensemble):
    choir.get("rest", 0)
    before = choir.memory()

    results = group(choir.sig("rest", 1) for _ in range(500)).apply_async()
    found = results.get(timeout=PATIENCE)

    # Each has seen its own request before and after, and all of them in one thread.
    for result, (*seen, thread) in zip(results.results, found, strict=True):
        assert set(seen) == {result.id}
        assert thread == "pgtasks-loop"
    [(took,)] = choir.fleet.query(
        "select extract(epoch from max(finished_at) - min(attempted_at)) "
        "from pgtasks.finished_jobs where group_id = %s",
        results.id,
    )
    assert took < 30  # one after the other it would be 500
    assert choir.memory() - before < 60 * 2**20


def test_functions_run_beside_them(choir: Ensemble):
    result = choir.send("plain_place", 1)
    while_it_runs = [choir.get("place")["here"] for _ in range(3)]
    found = result.get(timeout=PATIENCE)

    assert {tuple(here) for here in while_it_runs} == {(choir.pid, "pgtasks-loop")}
    assert found["here"] == [choir.pid, "pgtasks-job-0"]
    # worker_process_init was sent where they run, before they did.
    assert found["init"] == [choir.pid, "MainThread"]


def test_one_that_is_revoked_is_cancelled_and_may_tidy_up(choir: Ensemble):
    result = choir.send("long", 60)
    choir.expect(result, "start")
    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=PATIENCE)
    choir.expect(result, "start", "cancelled", "tidied up")


def test_one_that_is_cancelled_by_hand_says_why(choir: Ensemble):
    result = choir.send("long", 60)
    choir.expect(result, "start")
    choir.app.jobs.cancel(result, reason="not needed any more")

    with pytest.raises(TaskRevokedError, match="not needed any more"):
        result.get(timeout=PATIENCE)


def test_one_that_will_not_end_is_cancelled_again_and_its_result_dropped(choir: Ensemble):
    result = choir.send("stubborn")
    choir.expect(result, "start")
    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=PATIENCE)
    choir.expect(result, "start", "not yet", "not yet")


def test_time_limits_are_kept(choir: Ensemble):
    soft, parts = choir.send("softly"), choir.send("softly_in_parts")
    hard, late = choir.send("killed"), choir.send("late")

    assert soft.get(timeout=PATIENCE) == "in good time"
    with pytest.raises(Exception, match="SoftTimeLimitExceeded") as caught:
        parts.get(timeout=PATIENCE)
    assert type(caught.value).__name__ == "SoftTimeLimitExceeded"
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=PATIENCE)
    with pytest.raises(Exception, match="took longer than its timeout"):
        late.get(timeout=PATIENCE)
    assert [each["kind"] for each in choir.fleet.errors(late.id)] == ["TaskTimeout"] * 2


def test_a_cancellation_from_within_is_a_failure_like_any_other(choir: Ensemble):
    result = choir.send("cancels_itself")

    with pytest.raises(Exception, match="was cancelled"):
        result.get(timeout=PATIENCE)
    [error] = choir.fleet.errors(result.id)
    assert error["kind"].endswith("CancelledError")


def test_they_are_retried_ignored_rejected_and_snoozed(choir: Ensemble):
    again, by_itself = choir.send("again"), choir.send("again_by_itself")
    ends = {how: choir.send("end", how) for how in ("ignore", "reject", "snooze")}

    assert again.get(timeout=PATIENCE) == "at try 2"
    assert by_itself.get(timeout=PATIENCE) == 1
    wanted = {"ignore": "completed", "reject": "discarded", "snooze": "scheduled"}
    ids = {result.id: wanted[how] for how, result in ends.items()}
    eventually(lambda: choir.fleet.states(list(ids)) == ids, timeout=PATIENCE)


def test_what_they_lead_to_follows(choir: Ensemble):
    add, total = choir.sig("add", 1, 2), choir.sig("total")
    linked = chain(add, choir.sig("add", 4), choir.sig("add", 5)).apply_async()
    joined = chord([choir.sig("add", n, n) for n in range(4)], total).apply_async()
    sent = choir.send("sends")

    assert linked.get(timeout=PATIENCE) == 12
    assert joined.get(timeout=PATIENCE) == 12
    assert sent.get(timeout=PATIENCE) == [2, 4]


def test_their_transactions_settle_them(choir: Ensemble):
    booked, failed = choir.send("booked", False), choir.send("booked", True)
    late = choir.send("booked_too_late")

    assert booked.get(timeout=PATIENCE) == "booked"
    with pytest.raises(Exception, match="not booked"):
        failed.get(timeout=PATIENCE)
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        late.get(timeout=PATIENCE)
    events = choir.fleet.events()
    assert [events[each.id] for each in (booked, failed, late)] == [["booked"], [], []]


def test_the_handlers_of_a_task_see_its_request(choir: Ensemble):
    good, bad = choir.send("hooked", False), choir.send("hooked", True)

    choir.expect(good, "before_start", "on_success yes", "after_return SUCCESS")
    choir.expect(bad, "before_start", "on_failure ValueError('no')", "after_return FAILURE")


def test_one_that_is_watched_by_others_runs_on_the_loop_too(choir: Ensemble):
    # A tracer that somebody has put around ours sees its end, not a coroutine.
    assert choir.get("watched", 0.1) == [True, "pgtasks-loop"]

    result = choir.send("watched", 60)
    eventually(lambda: result.id in {job["id"] for job in active(choir)}, timeout=PATIENCE)
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=PATIENCE)


def active(choir: Ensemble) -> list[dict[str, Any]]:
    found = choir.app.control.inspect(timeout=20).active() or {}
    return [job for jobs in found.values() for job in jobs]
