"""What the members of a chord returned, for the job that waited for them: its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks import states
from pgtasks.app.connection import keeps_jobs_in_memory
from pgtasks.exceptions import ChordError
from pgtasks.job import Job
from pgtasks.utils.text import safe_repr

if TYPE_CHECKING:
    from pgtasks.storage.results import Member

__all__ = ["join"]


def join(
    app: Any, job: Job, request: dict[str, Any], args: Any
) -> tuple[Any, ChordError | None]:
    """Put the results of the header in front of the arguments of its body.

    They are read now rather than kept in the row: a body of a hundred tasks would hold
    them a hundred times.

    Args:
        app: The application.
        job: The body, released.
        request: Its request, from which what concerns the header is taken.
        args: Its own arguments.

    Returns:
        The arguments, and the error that the body fails with if a member has failed.
    """
    header = request.pop("header", None)
    if header is None:
        # It runs again, with arguments that have the results among them.
        return args, None
    members = _members(app, job.awaits or "")
    if len(members) < header["size"]:
        return args, ChordError(
            f"{header['size'] - len(members)} of {header['size']} members of group "
            f"{job.awaits} have no result: they were purged before they ran, or pruned."
        )
    values = []
    for member in members:
        value = _value(app.backend, member)
        if member.state != states.COMPLETED:
            error = ChordError(f"Dependency {member.task_id} raised {safe_repr(value)}")
            error.__cause__ = value if isinstance(value, BaseException) else None
            return args, error
        values.append(value)
    return ([values, *args] if header["taken"] else args), None


def _members(app: Any, group_id: str) -> list[Member]:
    if keeps_jobs_in_memory(app):
        from pgtasks.app.memory import queue_of

        return queue_of(app).members(group_id)
    from pgtasks.storage import results

    found: list[Member] = app.database.run(results.members(group_id), retry=True)
    return found


def _value(backend: Any, member: Member) -> Any:
    decoded = backend.load(member.result, member.result_body, member.result_content_type)
    status = states.status_of(member.state, member.status)
    if status in states.EXCEPTION_STATES:
        return backend.exception_to_python(decoded)
    return decoded
