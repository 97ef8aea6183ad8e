from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pgtasks import exceptions
from pgtasks.exceptions import (
    Cancel,
    CeleryError,
    Discard,
    MaxRetriesExceededError,
    NotRegistered,
    PgtasksError,
    QueueNotFound,
    Reject,
    Retry,
    Snooze,
    SoftTimeLimitExceeded,
    TaskError,
    TaskPredicate,
)

#: Class, and one of its ancestors; as in Celery 5.7.
TREE = [
    ("AlreadyRegistered", "TaskError"),
    ("AlwaysEagerIgnored", "CeleryWarning"),
    ("BackendGetMetaError", "BackendError"),
    ("BackendStoreError", "BackendError"),
    ("ChordError", "TaskError"),
    ("DuplicateNodenameWarning", "CeleryWarning"),
    ("DuplicateTaskNameWarning", "CeleryWarning"),
    ("FixupWarning", "CeleryWarning"),
    ("Ignore", "TaskPredicate"),
    ("ImproperlyConfigured", "CeleryError"),
    ("IncompleteStream", "TaskError"),
    ("InvalidTaskError", "TaskError"),
    ("MaxRetriesExceededError", "TaskError"),
    ("NotConfigured", "CeleryWarning"),
    ("NotRegistered", "TaskError"),
    ("QueueNotFound", "TaskError"),
    ("Reject", "TaskPredicate"),
    ("Retry", "TaskPredicate"),
    ("SecurityError", "CeleryError"),
    ("SecurityWarning", "CeleryWarning"),
    ("TaskError", "CeleryError"),
    ("TaskPredicate", "CeleryError"),
    ("TaskRevokedError", "TaskError"),
    ("TimeoutError", "TaskError"),
]


@pytest.mark.parametrize(("name", "ancestor"), TREE)
def test_the_tree_is_celerys(name: str, ancestor: str) -> None:
    assert issubclass(getattr(exceptions, name), getattr(exceptions, ancestor))


def test_everything_of_ours_can_be_caught_as_one() -> None:
    assert CeleryError is PgtasksError
    for cls in (Snooze, Discard, Cancel, exceptions.PayloadTooLarge):
        assert issubclass(cls, PgtasksError)


@pytest.mark.parametrize(
    "name", ["SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated"]
)
def test_catching_celery_errors_does_not_catch_what_the_worker_imposes(name: str) -> None:
    assert not issubclass(getattr(exceptions, name), CeleryError)


def test_lookups_that_fail_are_key_errors_as_well() -> None:
    assert issubclass(NotRegistered, KeyError)
    assert issubclass(QueueNotFound, KeyError)


def test_what_ends_a_worker_is_a_system_exit() -> None:
    assert issubclass(exceptions.WorkerShutdown, SystemExit)
    assert issubclass(exceptions.WorkerTerminate, SystemExit)


def test_every_public_name_exists() -> None:
    assert [name for name in exceptions.__all__ if not hasattr(exceptions, name)] == []


def test_kombus_errors_are_kombus_own_classes() -> None:
    import kombu.exceptions

    for name in exceptions._FROM_KOMBU:
        assert getattr(exceptions, name) is getattr(kombu.exceptions, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        exceptions.Nonsense  # noqa: B018


def test_a_command_error_carries_its_exit_code() -> None:
    error = exceptions.CeleryCommandException("no such queue", exit_code=69)

    assert (error.message, error.exit_code) == ("no such queue", 69)  # type: ignore[attr-defined]
    assert type(error) is exceptions.CeleryCommandException


def test_clicks_own_error_is_found_where_celery_has_it() -> None:
    import click

    assert exceptions.ClickException is click.ClickException  # type: ignore[attr-defined]
    assert issubclass(exceptions.CeleryCommandException, click.ClickException)


# ── Retry ───────────────────────────────────────────────────────────────────────────────


def test_a_retry_says_when() -> None:
    assert str(Retry(when=180)) == "Retry in 180s"
    assert str(Retry(exc=KeyError("a"), when=5)) == "Retry in 5s: KeyError('a')"
    assert str(Retry(when=datetime(2030, 1, 1, tzinfo=timezone.utc))) == (
        "Retry at 2030-01-01 00:00:00+00:00"
    )
    assert str(Retry("my words", KeyError("a"))) == "my words"


def test_a_retry_survives_pickling() -> None:
    when = datetime.now(timezone.utc)

    again = pickle.loads(pickle.dumps(Retry("foo", KeyError("x"), when)))

    assert (again.message, repr(again.exc), again.when) == ("foo", "KeyError('x')", when)


def test_a_retry_for_something_unpicklable_keeps_its_text() -> None:
    again = pickle.loads(pickle.dumps(Retry(exc=ValueError(threading.Lock()), when=1)))

    assert again.exc is None
    assert "ValueError(<unlocked" in again.excs


def test_a_retry_for_an_exception_without_a_repr_can_be_shown() -> None:
    class Broken(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert str(Retry(exc=Broken(), when=1)) == (
        "Retry in 1s: <Broken whose repr raises RuntimeError>"
    )


# ── the other answers ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("delay", "seconds"), [(30, 30.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (0, 0.0)]
)
def test_a_snooze_takes_seconds_or_a_timedelta(delay: Any, seconds: float) -> None:
    assert Snooze(delay).seconds == seconds


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_snooze_that_would_park_the_job_for_ever_is_refused(delay: Any) -> None:
    with pytest.raises(ValueError, match="finite"):
        Snooze(delay)


@pytest.mark.parametrize(
    "answer",
    [Snooze(30), Discard("hopeless"), Cancel("not wanted"), Reject("no", requeue=True)],
)
def test_an_answer_survives_pickling(answer: Any) -> None:
    again = pickle.loads(pickle.dumps(answer))

    assert isinstance(again, TaskPredicate)
    assert vars(again) == vars(answer)
    assert str(again) == str(answer)


def test_an_answer_says_why() -> None:
    assert str(Discard("hopeless")) == "Discarded: hopeless"
    assert str(Cancel()) == "Cancelled"
    assert str(Snooze(1.5)) == "Snooze for 1.5s"


# ── details ─────────────────────────────────────────────────────────────────────────────


def test_an_unregistered_task_is_told_with_a_remedy() -> None:
    error = NotRegistered("shop.add")

    assert "imports" in str(error)
    assert error.name == "shop.add"
    # What a result stores, and what its reader rebuilds it from.
    assert error.args == ("shop.add",)
    assert isinstance(error, TaskError)


def test_an_undeclared_queue_is_told_without_quotes() -> None:
    assert str(QueueNotFound("Queue 'x' missing")) == "Queue 'x' missing"


def test_what_gave_up_can_be_looked_at() -> None:
    error = MaxRetriesExceededError("too often", task_args=[1], task_kwargs={"a": 2})

    again = pickle.loads(pickle.dumps(error))

    assert (again.task_args, again.task_kwargs) == ([1], {"a": 2})
    assert str(again) == "too often"


def test_time_limits_show_their_seconds() -> None:
    assert str(SoftTimeLimitExceeded(300)) == "SoftTimeLimitExceeded(300,)"
    assert str(exceptions.TimeLimitExceeded(5)) == "TimeLimitExceeded(5,)"


def test_backend_errors_say_which_task() -> None:
    error = exceptions.BackendStoreError("full", state="SUCCESS", task_id="a1")

    assert repr(error).endswith("state:SUCCESS task_id:a1")
    assert pickle.loads(pickle.dumps(error)).task_id == "a1"


def test_reraising_keeps_the_traceback() -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        caught, traceback = error, error.__traceback__

    with pytest.raises(KeyError) as raised:
        exceptions.reraise(KeyError, caught, traceback)

    assert raised.value is caught


def test_importing_the_errors_loads_neither_kombu_nor_click() -> None:
    code = (
        "import pgtasks.exceptions, sys; "
        "sys.exit(bool({'kombu', 'click', 'billiard'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
