"""The seam at which programs and test suites see, or divert, what Celery sends.

In Celery every task passes ``app.amqp.send_task_message``, and people replace it. Where
somebody has, he is handed each task as a message, and no row is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgtasks.app.priority import shown
from pgtasks.utils.functional import maybe_list

if TYPE_CHECKING:
    from pgtasks.app.compose import Composer
    from pgtasks.job import NewJob

__all__ = ["hand_over", "replacement"]


def replacement(app: Any) -> Any:
    """What somebody has put in the place of ``app.amqp.send_task_message``, if so."""
    amqp = app.__dict__.get("amqp")
    return None if amqp is None else amqp.__dict__.get("send_task_message")


def hand_over(
    own: Composer,
    receiver: Any,
    job: NewJob,
    args: Any,
    kwargs: Any,
    given: Mapping[str, Any],
) -> None:
    """Give a job, as a message of Celery's, to what takes messages in our place.

    Args:
        own: What has composed it.
        receiver: See `replacement`.
        job: The job.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        given: The options of the call.
    """
    known = {key: value for key, value in given.items() if key in _OF_A_MESSAGE}
    message = own.app.amqp.as_task_v2(
        job.task_id,
        job.task,
        args,
        kwargs,
        callbacks=maybe_list(given.get("link")),
        errbacks=maybe_list(given.get("link_error")),
        **known,
    )
    options = {"queue": job.queue, "serializer": given.get("serializer") or own.serializer}
    priority = shown(job.priority, high_first=own.high_first)
    if priority:
        options["priority"] = priority
    receiver(None, job.task, message, **options)


#: Options of a call that a message has under the same name.
_OF_A_MESSAGE = frozenset(
    (
        "countdown", "eta", "group_id", "group_index", "expires", "retries", "chord",
        "reply_to", "time_limit", "soft_time_limit", "root_id", "parent_id", "shadow",
        "chain", "ignore_result", "argsrepr", "kwargsrepr", "replaced_task_nesting",
    )
)  # fmt: skip
