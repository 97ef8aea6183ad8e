"""Every error by name: Celery's tree, ours, and what each one asks you to do.

::

    Exception
    ├── PgtasksError, also called CeleryError
    │   ├── ImproperlyConfigured         a setting that cannot work; says which
    │   ├── SecurityError                content that must not be trusted
    │   ├── PayloadTooLarge              arguments or a result beyond the limit
    │   ├── NotCommitted                 waiting for a job of one's own open transaction
    │   ├── JobNotFound  JobStateError   what ``app.jobs`` cannot do to a job
    │   ├── CronNotFound                 what ``app.crons`` cannot do to an entry
    │   ├── CompletionError              complete() where it cannot settle the job
    │   ├── TaskPredicate                raised by a task to say what becomes of it
    │   │   ├── Ignore  Reject  Retry    Celery's
    │   │   └── Snooze  Discard  Cancel  Superseded (an Ignore)   ours
    │   ├── TaskError
    │   │   ├── QueueNotFound  NotRegistered  AlreadyRegistered  InvalidTaskError
    │   │   ├── IncompleteStream  TimeoutError  MaxRetriesExceededError
    │   │   └── TaskRevokedError  ChordError
    │   └── BackendError
    │       └── BackendGetMetaError  BackendStoreError
    ├── SoftTimeLimitExceeded (and TaskTimeout)
    ├── TimeLimitExceeded  WorkerLostError  Terminated
    └── kombu's OperationalError, EncodeError, DecodeError, ContentDisallowed,
        SerializerNotInstalled: the same classes, loaded when asked for
    UserWarning
    └── CeleryWarning
        ├── AlwaysEagerIgnored  DuplicateNodenameWarning  DuplicateTaskNameWarning
        └── FixupWarning  NotConfigured  SecurityWarning  UniqueStatesWarning
    SystemExit
    └── WorkerShutdown  WorkerTerminate
"""

from __future__ import annotations

import builtins
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta
    from types import TracebackType

    from kombu.exceptions import (
        ContentDisallowed,
        DecodeError,
        EncodeError,
        OperationalError,
        SerializerNotInstalled,
    )

__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "Cancel",
    "CeleryCommandException",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "CompletionError",
    "ContentDisallowed",
    "CronNotFound",
    "DecodeError",
    "Discard",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "EncodeError",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "JobNotFound",
    "JobStateError",
    "MaxRetriesExceededError",
    "NotCommitted",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "PayloadTooLarge",
    "PgtasksError",
    "QueueNotFound",
    "Reject",
    "Retry",
    "RetryTaskError",
    "SecurityError",
    "SecurityWarning",
    "SerializerNotInstalled",
    "Snooze",
    "SoftTimeLimitExceeded",
    "Superseded",
    "SystemTerminate",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "TaskTimeout",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "UniqueStatesWarning",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
    "reraise",
]


def reraise(
    tp: type[BaseException], value: BaseException, tb: TracebackType | None = None
) -> NoReturn:
    """Raise ``value`` again with the traceback ``tb``; ``tp`` is Celery's and unused."""
    raise value if value.__traceback__ is tb else value.with_traceback(tb)


class PgtasksError(Exception):
    """The root of everything that pgtasks raises by itself."""


CeleryError = PgtasksError


class ImproperlyConfigured(PgtasksError):
    """A setting, or a combination of them, that cannot work.

    The message names it, and what it can be.
    """


class SecurityError(PgtasksError):
    """Something asked for trust that it has not earned: a message not validly signed.

    Give its sender a certificate that this side has in its ``security_cert_store``.
    """


class PayloadTooLarge(PgtasksError, ValueError):
    """Arguments or a result are larger than the setting that bounds them.

    Store them elsewhere and pass on where they are, or raise ``task_body_max_size`` or
    ``result_max_size``.
    """


class NotCommitted(PgtasksError, RuntimeError):
    """A result is waited for whose job is in the caller's own open transaction.

    No worker can see the job before the commit, so that the wait would never end. Commit
    first; or have this call not join the transaction, with ``connection=None``.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return (
            f"Job {self.task_id} is in a transaction of this program that is not "
            f"committed: no worker can see it, and waiting for it would never end. Commit "
            f"first, or send it with connection=None, outside of the transaction."
        )


class JobNotFound(PgtasksError, LookupError):
    """``app.jobs`` was asked for a job that there is not.

    Its id may be misspelt, its row pruned, or it is in another database.
    """


class CronNotFound(PgtasksError, LookupError):
    """``app.crons`` was asked about an entry of the schedule that there is not.

    Attributes:
        name: Of the entry.
    """

    def __init__(self, name: str, what: str, *, known: bool = False) -> None:
        remedy = (
            "It stands in the program's beat_schedule: change it there."
            if known
            else "'pgtasks cron list' shows those that there are."
        )
        super().__init__(
            f"There is no entry {name!r} in the schedule that could be {what}. {remedy}"
        )
        self.name = name


class JobStateError(PgtasksError):
    """What ``app.jobs`` was asked to do, the state of the job does not allow.

    Attributes:
        task_id: The job.
        state: Its state; ``locked`` if somebody else holds its row.
    """

    def __init__(self, message: str, task_id: str = "", state: str = "") -> None:
        super().__init__(message, task_id, state)
        self.task_id = task_id
        self.state = state

    def __str__(self) -> str:
        return str(self.args[0])


class CompletionError(PgtasksError, RuntimeError):
    """``complete()`` was called where it cannot settle the job; the message says why.

    It is for the body of a task that a worker runs, once, with a connection to the
    application's own database that is in a transaction.
    """


# ── what a task says about its own end ──────────────────────────────────────────────────


class TaskPredicate(PgtasksError):
    """Base of the exceptions that are an answer, not a failure.

    A broad ``except Exception`` in a task swallows them like any exception:
    let them pass.
    """


class Retry(TaskPredicate):
    """The task is going to run again; raised by ``Task.retry``.

    Attributes:
        message: Text that replaces the usual one.
        exc: The exception that led here; lost in pickling if it cannot be pickled.
        excs: Its repr.
        when: Seconds from now, or the date of the next run.
        is_eager: The task runs in the caller's process.
        sig: The signature that an eager run continues with.
    """

    message: str | None = None
    exc: BaseException | None = None
    excs: str | None = None
    when: float | datetime | None = None

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
        **kwargs: Any,
    ) -> None:
        self.message = message
        if isinstance(exc, str):
            self.excs = exc
        elif exc is not None:
            self.exc, self.excs = exc, _show(exc)
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(message, exc, when, **kwargs)

    def humanize(self) -> str:
        """Say when, as it is written into logs: ``in 180s``, ``at 2030-01-01 …``."""
        return f"in {self.when}s" if isinstance(self.when, Real) else f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.excs:
            return f"Retry {self.humanize()}: {self.excs}"
        return f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[Any, ...]:
        exc = self.exc if _can_be_pickled(self.exc) else self.excs
        return type(self), (self.message, exc, self.when)


def _show(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _can_be_pickled(value: object) -> bool:
    import pickle

    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 # what we have just written
    except Exception:
        return False
    return True


RetryTaskError = Retry


class Ignore(TaskPredicate):
    """Leave the state of this task as it is and store no result."""


class Superseded(Ignore):
    """The job is no longer this run's: it was rescued, claimed or ended by others meanwhile.

    Raised where the job was to be settled, so that the transaction is rolled back: what was
    done here is then done, or not done, by whoever has the job. Let it pass.
    """


class Reject(TaskPredicate):
    """Refuse the job: give it back (``requeue=True``) or end it as failed."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Snooze(TaskPredicate):
    """Run this job again later; neither a retry nor a failure, it costs no attempt.

    Raise it or return it: ``raise Snooze(30)``.

    Attributes:
        seconds: How long to wait.
    """

    def __init__(self, delay: float | timedelta) -> None:
        total_seconds = getattr(delay, "total_seconds", None)
        seconds: Any = delay if total_seconds is None else total_seconds()
        # NaN fails every comparison, so the valid range is the condition.
        if not 0 <= seconds < float("inf"):
            raise ValueError(
                f"Snooze({delay!r}): the delay must be zero or a positive, finite "
                f"number of seconds, or a timedelta."
            )
        self.seconds = float(seconds)
        super().__init__(self.seconds)

    def __str__(self) -> str:
        return f"Snooze for {self.seconds:g}s"


class Discard(TaskPredicate):
    """Give this job up: it ends failed and is not retried, whatever the task says."""

    def __init__(self, reason: Any = None) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return "Discarded" if self.reason is None else f"Discarded: {self.reason}"


class Cancel(TaskPredicate):
    """End this job as cancelled: not failed, not retried, shown as REVOKED."""

    def __init__(self, reason: Any = None) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return "Cancelled" if self.reason is None else f"Cancelled: {self.reason}"


# ── errors about tasks ──────────────────────────────────────────────────────────────────


class TaskError(PgtasksError):
    """Base of the errors about a task, its queue or its result."""


class QueueNotFound(KeyError, TaskError):
    """A task was routed to a queue that is not declared, and none may be made.

    Declare it in ``task_queues``, or leave ``task_create_missing_queues`` on.
    """

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which is wrong for a sentence.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class IncompleteStream(TaskError):
    """A result was read to its end before all its parts were ready.

    Wait for it with ``get()`` first, or read it with ``intermediate=True``.
    """


class NotRegistered(KeyError, TaskError):
    """No task of that name is registered in this process."""

    # The name alone is the argument: this is what Celery stores with a result, and what
    # the reader of that result rebuilds the exception from.

    @property
    def name(self) -> Any:
        """The name that was looked for."""
        return self.args[0] if self.args else None

    def __str__(self) -> str:
        return (
            f"No task named {self.name!r} is registered here. Import the module that "
            f"defines it (the 'imports' setting, or app.autodiscover_tasks()), or pass "
            f"name={self.name!r} to the decorator if the function has moved."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class AlreadyRegistered(TaskError):
    """A task of that name exists already. Give one of them another ``name=``."""


class TimeoutError(TaskError):
    """The result was not ready in time. Not a subclass of the builtin, as in Celery.

    The task may be waiting still: a worker must serve its queue, and have a place free.
    """


class MaxRetriesExceededError(TaskError):
    """The task has used up its ``max_retries``, or its ``max_attempts``.

    Pass ``exc=`` to ``retry()`` to have the failure itself raised instead.

    Attributes:
        task_args: Positional arguments of the task that gave up.
        task_kwargs: Its keyword arguments.
    """

    def __init__(
        self,
        *args: Any,
        task_args: Iterable[Any] = (),
        task_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.task_args = task_args or []
        self.task_kwargs = task_kwargs or {}
        super().__init__(*args)


class TaskRevokedError(TaskError):
    """The task was revoked or has expired, so that it has no result."""


class InvalidTaskError(TaskError):
    """The data of a task, or its definition, does not make a task; the message says why."""


class ChordError(TaskError):
    """A task in the header of a chord failed, so that its body cannot run."""


# ── errors about results ────────────────────────────────────────────────────────────────


class BackendError(PgtasksError):
    """A result could not be written or read."""


class BackendGetMetaError(BackendError):
    """A result could not be read."""

    def __init__(self, *args: Any, task_id: str = "", **kwargs: Any) -> None:
        self.task_id = task_id
        super().__init__(*args)

    def __repr__(self) -> str:
        return f"{super().__repr__()} task_id:{self.task_id}"


class BackendStoreError(BackendError):
    """A result could not be written."""

    def __init__(
        self, *args: Any, state: str = "", task_id: str = "", **kwargs: Any
    ) -> None:
        self.state = state
        self.task_id = task_id
        super().__init__(*args)

    def __repr__(self) -> str:
        return f"{super().__repr__()} state:{self.state} task_id:{self.task_id}"


# ── ends that the worker imposes ────────────────────────────────────────────────────────
# Celery takes these from billiard, outside its own tree: a task that catches CeleryError
# must not catch the time limit with it.


class TimeLimitExceeded(Exception):
    """The hard time limit has passed; the process that ran the task was killed.

    Give the task a lower ``soft_time_limit``, so that it can end by itself.
    """

    def __str__(self) -> str:
        return f"TimeLimitExceeded{self.args}"


class SoftTimeLimitExceeded(Exception):
    """The soft time limit has passed; raised inside the task, so that it can clean up."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args}"


class TaskTimeout(SoftTimeLimitExceeded, builtins.TimeoutError):
    """A run of a task took longer than its ``timeout``; raised inside the task.

    A failure like any other: it is retried as long as there are attempts.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "The task took longer than its timeout."


class WorkerLostError(Exception):
    """The process that ran the task ended before the task did.

    It was killed (for its memory, by a person) or crashed. A task that may run twice can be
    run again: ``acks_late=True`` with ``reject_on_worker_lost=True``.
    """


class Terminated(Exception):
    """The process that ran the task was terminated on request."""


class WorkerTerminate(SystemExit):
    """Ask the worker to end at once."""


SystemTerminate = WorkerTerminate


class WorkerShutdown(SystemExit):
    """Ask the worker to finish what it runs and end."""


# ── warnings ────────────────────────────────────────────────────────────────────────────


class CeleryWarning(UserWarning):
    """Base of the warnings."""


class AlwaysEagerIgnored(CeleryWarning):
    """``send_task`` does not obey ``task_always_eager``: it may not know the task."""


class DuplicateNodenameWarning(CeleryWarning):
    """Several workers answer under the same node name. Give each its own with ``-n``."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Two functions claim the same task name. Give one of them another ``name=``."""


class UniqueStatesWarning(CeleryWarning):
    """The states in which a job is unique leave one out in between: add it to ``states``."""


class FixupWarning(CeleryWarning):
    """A fixup found something to complain about."""


class NotConfigured(CeleryWarning):
    """No configuration module was found; set one, or pass settings to the app."""


class SecurityWarning(CeleryWarning):
    """A setting that is honoured, and dangerous."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Something will be deprecated; shown by the worker even where Python hides it."""


class CDeprecationWarning(DeprecationWarning):
    """Something is deprecated; shown by the worker even where Python hides it."""


# ── classes that come with a price ──────────────────────────────────────────────────────
# kombu.exceptions costs 27 ms to import and click 19 ms, more than all of this package's
# top; yet `except kombu.exceptions.OperationalError` must catch what we raise. So these
# names are kombu's and click's own classes, and are looked up when somebody uses them.

_FROM_KOMBU = {
    "ContentDisallowed",
    "DecodeError",
    "EncodeError",
    "OperationalError",
    "SerializerNotInstalled",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _FROM_KOMBU:
            import kombu.exceptions

            value = getattr(kombu.exceptions, name)
        elif name == "CeleryCommandException":
            value = _command_exception()
        elif name == "ClickException":
            from click import ClickException as value
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

else:

    class CeleryCommandException(Exception):
        """A command failed; carries its exit code."""

        exit_code: int

        def __init__(self, message: str, exit_code: int) -> None: ...


def _command_exception() -> Any:
    from click import ClickException

    def __init__(self: Any, message: str, exit_code: int) -> None:
        ClickException.__init__(self, message=message)
        self.exit_code = exit_code

    return type(
        "CeleryCommandException",
        (ClickException,),
        {
            "__doc__": "A command failed; carries its exit code.",
            "__init__": __init__,
            "__module__": __name__,
        },
    )
