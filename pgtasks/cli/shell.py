"""The ``shell`` command: Python with the application and its tasks at hand."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from pgtasks.cli.invocation import Failure, Invocation
from pgtasks.cli.options import Command, option

__all__ = ["shell"]

GROUP = "Shell Options"


# What follows the options is accepted and left alone, as by Celery's.
@click.command(cls=Command, context_settings={"allow_extra_args": True})
@option("-I", "--ipython", group=GROUP, is_flag=True, help="Use IPython.")
@option("-B", "--bpython", group=GROUP, is_flag=True, help="Use bpython.")
@option("--python", group=GROUP, is_flag=True, help="Use Python's own prompt.")
@option("-T", "--without-tasks", group=GROUP, is_flag=True, help="Leave the tasks out.")
@option(
    "--eventlet",
    group=GROUP,
    is_flag=True,
    help="Accepted from Celery: eventlet is no longer maintained.",
)
@option("--gevent", group=GROUP, is_flag=True, help="Patch Python with gevent first.")
@click.pass_context
def shell(
    ctx: click.Context,
    /,
    ipython: bool,
    bpython: bool,
    python: bool,
    without_tasks: bool,
    eventlet: bool,
    gevent: bool,
) -> None:
    """Start Python with the application at hand.

    There are app (celery is the same), Task, chain, group, chord, chunks, signature and
    their kin, AsyncResult, and every task under the name of its function. IPython is used
    where it is installed, else bpython, else Python's own prompt.
    """
    invocation = ctx.ensure_object(Invocation)
    if eventlet:
        invocation.out.note("Eventlet is no longer maintained; this shell is without it.")
    if gevent:
        _patch()
    app = invocation.application
    app.loader.import_default_modules()
    app.finalize()
    names = _names(app, with_tasks=not without_tasks)
    if python:
        _python(names)
    elif bpython:
        _bpython(names)
    elif ipython:
        _ipython(names)
    else:
        _best()(names)


def _patch() -> None:
    if importlib.util.find_spec("gevent") is None:
        raise Failure("gevent is not installed: pip install gevent, or leave --gevent out.")
    from gevent import monkey

    monkey.patch_all()


def _names(app: Any, *, with_tasks: bool) -> dict[str, Any]:
    import pgtasks

    known = (
        "Task", "chain", "group", "chord", "chunks", "xmap", "xstarmap", "subtask",
        "signature",
    )  # fmt: skip
    names = {name: getattr(pgtasks, name) for name in known}
    tasks = {
        task.__name__: task
        for task in app.tasks.values()
        if with_tasks and not task.name.startswith("celery.")
    }
    # A task that is called chain is the program's own business.
    return {
        **names,
        "AsyncResult": app.AsyncResult,
        "app": app,
        "celery": app,
        **tasks,
    }


# ── prompts ─────────────────────────────────────────────────────────────────────────────


def _best() -> Callable[[Mapping[str, Any]], None]:
    for name, start in (("IPython", _ipython), ("bpython", _bpython)):
        if importlib.util.find_spec(name) is not None:
            return start
    return _python


def _python(names: Mapping[str, Any]) -> None:
    import code

    try:
        import readline
        import rlcompleter
    except ImportError:
        pass
    else:
        readline.set_completer(rlcompleter.Completer(dict(names)).complete)
        readline.parse_and_bind("tab: complete")
    app = names["app"]
    banner = f"Python {sys.version.split()[0]} with {app!r}"
    code.interact(banner=banner, local=dict(names), exitmsg="")


def _bpython(names: Mapping[str, Any]) -> None:
    _require("bpython")
    from bpython import embed

    embed(dict(names))


def _ipython(names: Mapping[str, Any]) -> None:
    _require("IPython")
    from IPython import start_ipython

    start_ipython(argv=[], user_ns=dict(names))


def _require(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise Failure(
            f"{name} is not installed: pip install {name.lower()}, or use --python."
        )
