"""What becomes of jobs that cannot say so themselves: their process is gone.

Celery's rules, from its documentation of ``acks_late``, ``reject_on_worker_lost``,
``retry_on_worker_lost``, ``acks_on_timeout`` and of the handlers of tasks; with the bound of
``worker_max_crashes``, which Celery has not.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from pgtasks import Celery, Task, states
from pgtasks.exceptions import Retry, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from pgtasks.job import Job, Outcome
from pgtasks.worker import verdicts

KILLED = signal.SIGKILL.value


@pytest.fixture
def lose(memory_app: Celery, desk: Callable[..., Any]) -> Callable[..., Any]:
    """Sends a task and has it be lost: the result, and what the verdict is."""

    def lose(
        task: Any, verdict: Callable[..., Outcome], *given: Any, **options: Any
    ) -> Any:
        known = {
            each: options.pop(each) for each in ("crashes", "planned") if each in options
        }
        if verdict is verdicts.child_died:
            given, options_of = (KILLED,), {"planned": known.get("planned", False)}
        else:
            options_of = {}
        result = task.apply_async((3,), {"unit": "m"}, **options)
        worker = desk(memory_app)
        job: Job = worker.claim()[0]._replace(crashes=known.get("crashes", 0))
        outcome = verdict(memory_app, job, *given, **options_of)
        worker.settle(job, outcome)
        return result, outcome

    return lose


def task_of(app: Celery, **options: Any) -> Any:
    @app.task(name="measure", **options)
    def measure(length: int, unit: str) -> None: ...

    app.finalize()
    return measure


# ── the process is gone ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "crashes", "state"),
    [
        ({}, 0, "discarded"),
        ({"acks_late": True}, 0, "discarded"),
        ({"acks_late": True, "reject_on_worker_lost": True}, 0, "available"),
        ({"acks_late": True, "reject_on_worker_lost": True}, 1, "available"),
        ({"acks_late": True, "reject_on_worker_lost": True}, 2, "discarded"),
        ({"reject_on_worker_lost": True}, 0, "discarded"),
        ({"max_attempts": 2}, 0, "available"),
    ],
    ids=repr,
)
def test_a_job_whose_process_died_runs_again_where_its_task_says_so(
    memory_app: Celery, lose: Any, options: Any, crashes: int, state: str
) -> None:
    result, outcome = lose(
        task_of(memory_app, **options), verdicts.child_died, crashes=crashes
    )

    assert (outcome.state, outcome.crashed) == (state, True)
    assert outcome.error.kind == "WorkerLostError"
    assert "signal 9 (SIGKILL)" in outcome.error.message
    if state == "discarded":
        with pytest.raises(WorkerLostError, match="Worker exited prematurely"):
            result.get(timeout=1)
    else:
        assert result.state == "PENDING"


@pytest.mark.parametrize("ignored_by", ["task", "call"])
def test_the_loss_of_what_nobody_wants_to_know_is_not_kept(
    memory_app: Celery, lose: Any, ignored_by: str
) -> None:
    ignored = {"ignore_result": True}
    task = task_of(memory_app, **(ignored if ignored_by == "task" else {}))
    result, outcome = lose(
        task, verdicts.child_died, **(ignored if ignored_by == "call" else {})
    )

    assert outcome.state == "discarded"
    assert (outcome.status, outcome.result) == (None, None)
    assert result.state != states.SUCCESS


def test_errors_may_be_kept_though_results_are_not(memory_app: Celery, lose: Any) -> None:
    task = task_of(memory_app, ignore_result=True, store_errors_even_if_ignored=True)
    _, outcome = lose(task, verdicts.child_died)

    assert "WorkerLostError" in outcome.result


@pytest.mark.parametrize("late", [True, False])
def test_a_lost_process_may_count_as_a_retry(
    memory_app: Celery, lose: Any, heard: Any, late: bool
) -> None:
    task = task_of(
        memory_app,
        acks_late=late,
        retry_on_worker_lost=True,
        max_retries=3,
        default_retry_delay=30,
        bind=False,
    )
    handled: list[Any] = []
    task.on_retry = lambda exc, id, args, kwargs, einfo: handled.append((exc, id))
    told = heard("task_retry", "task_failure")
    result, outcome = lose(task, verdicts.child_died, retries=1)

    assert (outcome.state, outcome.delay, outcome.retried) == ("retryable", 30, True)
    [(error, id)] = handled
    assert (type(error), id) == (WorkerLostError, result.id)
    [retry] = told
    assert retry["name"] == "task_retry" and isinstance(retry["reason"], Retry)
    assert result.state == "RETRY"


def test_a_job_without_retries_left_fails_with_its_process(
    memory_app: Celery, lose: Any
) -> None:
    task = task_of(memory_app, acks_late=True, retry_on_worker_lost=True, max_retries=3)
    result, outcome = lose(task, verdicts.child_died, retries=3)

    assert outcome.state == "discarded"
    with pytest.raises(WorkerLostError):
        result.get(timeout=1)


def test_handlers_and_signals_see_the_request_of_the_lost_job(
    memory_app: Celery, lose: Any
) -> None:
    from pgtasks import signals

    task = task_of(memory_app)
    seen: list[Any] = []

    def look(sender: Any, **told: Any) -> None:
        seen.append(
            (told["task_id"], told["args"], told["kwargs"], type(told["exception"]))
        )

    signals.task_failure.connect(look)
    try:
        result, _ = lose(task, verdicts.child_died)
    finally:
        signals.task_failure.disconnect(look)

    assert seen == [(result.id, [3], {"unit": "m"}, WorkerLostError)]


@pytest.mark.parametrize(("late", "state"), [(True, "available"), (False, "discarded")])
def test_a_cold_stop_gives_back_what_may_run_again_and_blames_nobody(
    memory_app: Celery, lose: Any, late: bool, state: str
) -> None:
    _, outcome = lose(
        task_of(memory_app, acks_late=late), verdicts.child_died, planned=True
    )

    assert outcome.state == state
    assert outcome.give_back is late
    assert outcome.crashed is not late


# ── the time is up ──────────────────────────────────────────────────────────────────────


def test_a_job_that_was_killed_at_its_limit_has_failed_with_all_that_follows(
    memory_app: Celery, lose: Any, heard: Any
) -> None:
    handled: list[Any] = []

    class Watched(Task[Any, Any]):
        def on_failure(
            self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
        ) -> None:
            handled.append(("on_failure", type(exc), task_id, args, kwargs))

        def after_return(
            self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
        ) -> None:
            handled.append(("after_return", status, type(retval), task_id))

    told = heard("task_failure")
    result, outcome = lose(task_of(memory_app, base=Watched), verdicts.timed_out, 30.0)

    assert outcome.state == "discarded"
    assert handled == [
        ("on_failure", TimeLimitExceeded, result.id, [3], {"unit": "m"}),
        ("after_return", "FAILURE", TimeLimitExceeded, result.id),
    ]
    [failure] = told
    assert (failure["task_id"], type(failure["exception"])) == (
        result.id,
        TimeLimitExceeded,
    )
    # Celery #8882: it would keep alive whatever was at hand when the time was up.
    assert failure["exception"].__traceback__ is None
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=1)


def test_handlers_that_raise_spoil_no_verdict(memory_app: Celery, lose: Any) -> None:
    class Rude(Task[Any, Any]):
        def on_failure(self, *given: Any) -> None:
            raise KeyError("rude")

        def after_return(self, *given: Any) -> None:
            raise KeyError("rude")

    _, outcome = lose(task_of(memory_app, base=Rude), verdicts.timed_out, 30.0)

    assert outcome.state == "discarded"
    assert outcome.error.kind == "TimeLimitExceeded"


# ── it was revoked ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("signum", [None, signal.SIGTERM.value])
def test_a_revoked_job_is_told_of_in_celerys_words(
    memory_app: Celery, desk: Callable[..., Any], heard: Any, signum: int | None
) -> None:
    task = task_of(memory_app)
    told = heard("task_revoked")
    result = task.delay(3, unit="m")
    worker = desk(memory_app)
    [job] = worker.claim()
    worker.settle(job, verdicts.revoked(memory_app, job, signum=signum))

    [event] = told
    assert event["request"].id == result.id
    assert (event["terminated"], event["signum"], event["expired"]) == (
        signum is not None,
        signum,
        False,
    )
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError, match="terminated" if signum else "revoked"):
        result.get(timeout=1)
