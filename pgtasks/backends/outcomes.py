"""What became of jobs that are kept in memory, told to whichever store keeps their results."""

from __future__ import annotations

from typing import Any

from pgtasks import serialization, states
from pgtasks.result import result_from_tuple

__all__ = ["outcome_as_result"]


def outcome_as_result(
    backend: Any, job: Any, outcome: Any, worker: str | None
) -> dict[str, Any] | None:
    """The arguments of `Backend.store_result` for a job's end.

    Args:
        backend: Whose serializer wrote the result.
        job: The job, a `NewJob`.
        outcome: What became of it.
        worker: Name of the worker that ran it, if it is known.

    Returns:
        None where nothing is to be stored: the job runs again, or its result is ignored.
    """
    from pgtasks.app.context import Context

    state = states.status_of(outcome.state, outcome.status)
    if outcome.state not in states.FINISHED_JOB_STATES and state != states.RETRY:
        return None
    if outcome.result is None and outcome.result_body is None:
        return None
    children = backend.load(outcome.children) if outcome.children else []
    request = Context(
        id=job.task_id,
        task=job.task,
        group=job.group_id,
        parent_id=job.parent_id,
        hostname=worker,
        retries=job.retries,
        delivery_info={"routing_key": job.queue},
        _children=[result_from_tuple(child, backend.app) for child in children],
    )
    if backend.app.conf.result_extended:
        request.update(_extended(backend, job))
    return {
        "task_id": job.task_id,
        # Of a failure this is what `prepare_exception` has made, which stays as it is.
        "result": backend.load(
            outcome.result, outcome.result_body, outcome.result_content_type
        ),
        "state": state,
        "traceback": outcome.traceback,
        "request": request,
    }


def _extended(backend: Any, job: Any) -> dict[str, Any]:
    try:
        args, kwargs = serialization.load_arguments(
            job.args,
            job.kwargs,
            job.body,
            job.content_type,
            job.content_encoding,
            backend.accept,
        )
        headers = serialization.loads(job.headers) if job.headers else {}
    except Exception:
        return {}  # The task has failed because of just that.
    return {
        "args": args,
        "kwargs": kwargs,
        "stamped_headers": headers.get("stamped_headers"),
        "stamps": headers.get("stamps"),
    }
