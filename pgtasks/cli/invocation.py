"""One call of the command line: what it was told about the application, and finding that."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from pgtasks.cli.output import Output
from pgtasks.exceptions import CeleryCommandException

__all__ = [
    "EX_CONFIG",
    "EX_UNAVAILABLE",
    "Failure",
    "Invocation",
    "started_in",
    "starting_here",
    "tell_preload_options",
    "users_traceback",
]

EX_UNAVAILABLE = 69
EX_CONFIG = 78


class Failure(CeleryCommandException):
    """A command cannot do its work: a message with a remedy, and an exit status.

    Args:
        message: What happened, and what to do.
        exit_code: The exit status.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message, exit_code)


_started_in: ContextVar[str | None] = ContextVar("started_in", default=None)


def started_in() -> str | None:
    """The folder in which the command line was called, before any ``--workdir``."""
    return _started_in.get()


@contextmanager
def starting_here() -> Iterator[None]:
    """Note that the command line is called in the folder that we are in."""
    try:
        here = os.getcwd()
    except OSError:
        here = None  # it has been deleted
    token = _started_in.set(here)
    try:
        yield
    finally:
        _started_in.reset(token)


@dataclass
class Invocation:
    """What the options of all commands said; ``ctx.obj`` of every command.

    Attributes:
        named: The application: its name from ``-A``, or itself.
        broker: From ``-b``.
        result_backend: From ``--result-backend``.
        loader: From ``--loader``.
        config: From ``--config``.
        no_color: From ``-C``, or ``NO_COLOR`` in the environment.
        quiet: From ``-q``.
        skip_checks: From ``--skip-checks``, or ``SKIP_CHECKS`` in the environment.
        debug: From ``--debug``: errors are shown with their tracebacks.
    """

    named: Any = None
    broker: str | None = None
    result_backend: str | None = None
    loader: str | None = None
    config: str | None = None
    no_color: bool = field(default_factory=lambda: bool(os.environ.get("NO_COLOR")))
    quiet: bool = False
    skip_checks: bool = field(default_factory=lambda: bool(os.environ.get("SKIP_CHECKS")))
    debug: bool = False

    @property
    def out(self) -> Output:
        """Where the command prints."""
        return Output(color=False if self.no_color else None, quiet=self.quiet)

    @property
    def app(self) -> Any:
        """The application; None if the command line says nothing about any."""
        if any((self.named, self.broker, self.loader, self.config)):
            return self.application
        return None

    @cached_property
    def application(self) -> Any:
        """The application that was named, else the default one."""
        self._tell_environment()
        cwd = os.getcwd()
        if cwd not in sys.path:
            sys.path.insert(0, cwd)
        if self.named is None:
            from pgtasks._state import get_current_app

            return get_current_app()
        return _find(self.named) if isinstance(self.named, str) else self.named

    @property
    def reached(self) -> Any:
        """The application, once its database has answered.

        Its operations wait out an outage; a person in front of a terminal is to be told.

        Raises:
            StorageError: It does not answer; the message says what to do.
        """
        from pgtasks.app.connection import keeps_jobs_in_memory
        from pgtasks.storage import health

        app = self.application
        if not keeps_jobs_in_memory(app):
            app.database.run(health.ping())
        return app

    def _tell_environment(self) -> None:
        # Where the settings look first, and the processes of a worker too.
        for name, value in (
            ("CELERY_BROKER_URL", self.broker),
            ("CELERY_RESULT_BACKEND", self.result_backend),
            ("CELERY_LOADER", self.loader),
            ("CELERY_CONFIG_MODULE", self.config),
            ("CELERY_SKIP_CHECKS", "true" if self.skip_checks else None),
        ):
            if value:
                os.environ[name] = value

    # ── options of the application's own ────────────────────────────────────────────────

    def user_options(self, command: str) -> list[click.Parameter]:
        """The options that the application adds to a command."""
        added: Mapping[str, Iterable[Any]] = self.application.user_options or {}
        wanted = [*added.get(command, ()), *added.get("preload", ())]
        return [each for each in wanted if isinstance(each, click.Parameter)]


def tell_preload_options(app: Any, callback: Any, params: dict[str, Any]) -> None:
    """Hand the values of ``preload`` options to those who asked for them.

    Args:
        app: The application, whose options they are.
        callback: The command's function; what it takes no argument for it does not get.
        params: What it is going to be called with.
    """
    preload = (getattr(app, "user_options", None) or {}).get("preload", ())
    names = [each.name for each in preload if isinstance(each, click.Parameter)]
    options = {name: params[name] for name in names if name in params}
    if not options:
        return
    from pgtasks.signals import user_preload_options

    user_preload_options.send(sender=callback, app=app, options=options)
    taken = inspect.signature(callback).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        for name in options:
            if name not in taken:
                del params[name]


# ── finding the application ─────────────────────────────────────────────────────────────


def _find(name: str) -> Any:
    from pgtasks.app.base import Celery
    from pgtasks.app.utils import find_app

    module = name.partition(":")[0]
    try:
        found = find_app(name)
    except ModuleNotFoundError as error:
        if ":" in name and error.name == name:
            # There is the module, but nothing of that name in it.
            missing = name.partition(":")[2]
            raise Failure(
                f"Unable to load the application {name!r}: the module {module!r} has no "
                f"{missing!r}. {_those_in(module, Celery)}",
                2,
            ) from error
        # Ours is what -A names, or a package on the way there.
        if f"{module}.".startswith(f"{error.name}."):
            raise Failure(_not_found(module, str(error.name)), 2) from error
        raise Failure(_broken(module), 2) from error
    except AttributeError as error:
        if error.__traceback__ is None or _raised_by_user(error):
            raise Failure(_broken(module), 2) from error
        raise Failure(_no_application(name, module, error, Celery), 2) from error
    except Exception as error:
        raise Failure(_broken(module), 2) from error
    if not isinstance(found, Celery) and not hasattr(found, "tasks"):
        raise Failure(
            f"Unable to load the application {name!r}: that is of type "
            f"{type(found).__name__}, and no application. {_those_in(module, Celery)}",
            2,
        )
    return found


def _not_found(module: str, missing: str) -> str:
    text = (
        f"Unable to load the application {module!r}: the module {missing!r} was not found, "
        f"neither in {os.getcwd()} nor on sys.path."
    )
    if module.endswith(".py") and Path(module).is_file():
        return f"{text} Name it without the suffix: -A {module[:-3]}"
    here = [path.stem for path in Path().glob("*.py")]
    here += [path.parent.name for path in Path().glob("*/__init__.py")]
    near = get_close_matches(missing.partition(".")[0], here, 1, 0.5)
    if near and near[0] != missing:
        return f"{text} Did you mean -A {near[0]}?"
    return f"{text} Go to the folder that it is in, or name that with --workdir."


def _no_application(name: str, module: str, error: Exception, Celery: type) -> str:
    text = f"Unable to load the application {name!r}: {str(error).rstrip('.')}."
    # find_app() knows what to do where it raises of its own.
    return text if "holds no application" in text else f"{text} {_those_in(module, Celery)}"


def _those_in(module: str, Celery: type) -> str:
    values = vars(sys.modules[module]) if module in sys.modules else {}
    names = [name for name, value in values.items() if isinstance(value, Celery)]
    if not names:
        return f"There is none in {module!r}."
    return f"There is {' and '.join(f'-A {module}:{name}' for name in names)}."


def _broken(module: str) -> str:
    return f"Unable to load the application: importing {module!r} failed.\n\n{users_traceback()}"


def _raised_by_user(error: BaseException) -> bool:
    return _beyond_us(traceback.extract_tb(error.__traceback__)) != []


def _beyond_us(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames from the first one that is neither ours nor the import machinery's."""
    ours = (str(Path(__file__).parents[1]), "<frozen importlib", importlib_folder())
    kept = list(frames)
    while kept and kept[0].filename.startswith(ours):
        del kept[0]
    return kept


def importlib_folder() -> str:
    """Where the import machinery of the standard library is."""
    import importlib

    return str(Path(importlib.__file__).parent)


def users_traceback() -> str:
    """The traceback of the exception at hand, from the program's own code on."""
    kind, error, trace = sys.exc_info()
    frames = _beyond_us(traceback.extract_tb(trace))
    shown = ["Traceback (most recent call last):\n", *traceback.format_list(frames)]
    return "".join(
        [*(shown if frames else []), *traceback.format_exception_only(kind, error)]
    )
