"""The ``result`` command."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import click

from pgtasks.cli import completing
from pgtasks.cli.invocation import EX_UNAVAILABLE, Failure, Invocation
from pgtasks.cli.options import Command, json_option, option
from pgtasks.cli.output import clean

__all__ = ["result"]


@click.command(cls=Command)
@click.argument("task_id")
@option(
    "-t",
    "--task",
    group="Result Options",
    metavar="NAME",
    shell_complete=completing.tasks,
    help="Name of the task, if it keeps its results in a place of its own.",
)
@option(
    "--traceback", group="Result Options", is_flag=True, help="Show the traceback instead."
)
@option(
    "--timeout",
    group="Result Options",
    type=float,
    metavar="SECONDS",
    help="Wait for no longer than this; for ever by default.",
)
@json_option
@click.pass_context
def result(
    ctx: click.Context,
    task_id: str,
    task: str | None,
    traceback: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Print what the job TASK_ID returned, once it is over.

    The exit status is 1 if it failed.
    """
    invocation = ctx.ensure_object(Invocation)
    app, out = invocation.application, invocation.out
    found = _result_of(app, task, task_id)
    _require_job(app, found)
    if traceback and not as_json:
        text = found.traceback
        if text:
            out.say(clean(text, lines=True).rstrip())
        else:
            out.note(f"There is no traceback: the job is {found.state}.")
        return
    _await(found, timeout)
    if as_json:
        out.json(_as_json(found))
    elif found.successful():
        value = found.result
        out.say(clean(value if isinstance(value, str) else repr(value), lines=True))
    elif not found.ready():
        out.say(clean(found.state))
    else:
        out.say(clean(f"{found.state}: {_error(found.result)}", lines=True), error=True)
        if found.traceback:
            out.note("--traceback shows where it came from.")
    ctx.exit(0 if found.successful() else 1)


def _result_of(app: Any, task: str | None, task_id: str) -> Any:
    if task is None:
        return app.AsyncResult(task_id)
    app.loader.import_default_modules()
    app.finalize()
    if task not in app.tasks:
        near = get_close_matches(task, app.tasks, 1, 0.7)
        raise Failure(
            f"There is no task {task!r} here. "
            + (f"Did you mean {near[0]!r}? " if near else "")
            + "Leave -t out, or correct the name.",
            2,
        )
    return app.tasks[task].AsyncResult(task_id)


def _require_job(app: Any, found: Any) -> None:
    """An id that nobody has given would be waited for until the end of time."""
    if type(found.backend).__module__ != "pgtasks.backends.postgres":
        return
    from pgtasks.storage import results

    if not app.database.run(results.read([found.id])):
        raise Failure(
            f"There is no job {found.id!r} in {app.database.endpoint.address}. Its id "
            f"may be misspelt, its row pruned (setting result_expires), or it was sent to "
            f"another database.",
        )


def _await(found: Any, timeout: float | None) -> None:
    from pgtasks.exceptions import TimeoutError

    try:
        found.get(timeout=timeout, propagate=False)
    except TimeoutError as error:
        raise Failure(
            f"The job is {found.state} after {timeout:g} s. 'pgtasks doctor' tells whether "
            f"a worker serves its queue.",
            EX_UNAVAILABLE,
        ) from error


def _error(value: Any) -> str:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return str(value)


def _as_json(found: Any) -> dict[str, Any]:
    value = found.result
    return {
        "id": found.id,
        "task": found.name,
        "state": found.state,
        "result": _error(value) if isinstance(value, BaseException) else value,
        "traceback": found.traceback,
        "finished_at": found.date_done,
    }
