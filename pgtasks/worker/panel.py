"""The registry of the commands that a worker understands."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.worker.consumer import Consumer
    from pgtasks.worker.worker import Worker

__all__ = [
    "CommandInfo",
    "CommandRefused",
    "Panel",
    "State",
    "control_command",
    "controller_info_t",
    "inspect_command",
    "nok",
    "ok",
]

Handler = TypeVar("Handler", bound=Callable[..., Any])


class CommandRefused(ValueError):
    """A command cannot be done here; its text is the reply, and the log has no traceback."""


@dataclass(frozen=True)
class State:
    """What a command is given first: where it runs.

    Attributes:
        app: The application.
        hostname: Name of the worker.
        worker: The worker itself.
    """

    app: Celery
    hostname: str
    worker: Worker

    @property
    def consumer(self) -> Consumer:
        """The worker, as the one who takes jobs."""
        return self.worker.consumer


class CommandInfo(NamedTuple):
    """A command as the command line knows it.

    Attributes:
        alias: An old name of it.
        type: ``control`` changes something, ``inspect`` does not.
        visible: It is listed.
        default_timeout: Seconds to wait for replies.
        help: One line about it.
        signature: Its arguments, for people.
        args: Its arguments on the command line: name, and what reads it.
        variadic: The argument that takes all further words.
    """

    alias: str | None
    type: str
    visible: bool
    default_timeout: float
    help: str
    signature: str | None
    args: Sequence[tuple[str, Callable[[str], Any] | None]] | None
    variadic: str | None


#: Celery's name of it.
controller_info_t = CommandInfo


class Panel(UserDict[str, Callable[..., Any]]):
    """The commands of this process: `data` has the functions, `meta` what they are like."""

    data: dict[str, Callable[..., Any]] = {}
    meta: dict[str, CommandInfo] = {}

    @classmethod
    def register(cls, *args: Any, **kwargs: Any) -> Any:
        """Add a command: ``@Panel.register``, or with `register_as`'s arguments."""
        if args and callable(args[0]):
            return cls.register_as(**kwargs)(args[0])
        return cls.register_as(*args, **kwargs)

    @classmethod
    def register_as(
        cls,
        name: str | None = None,
        alias: str | None = None,
        type: str = "control",
        visible: bool = True,
        default_timeout: float = 1.0,
        help: str | None = None,
        signature: str | None = None,
        args: Sequence[tuple[str, Callable[[str], Any] | None]] | None = None,
        variadic: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Add a command; a decorator. For the arguments see `CommandInfo`."""

        def add(function: Handler) -> Handler:
            command = name or function.__name__
            line = help or (function.__doc__ or "").strip().partition("\n")[0]
            cls.data[command] = function
            cls.meta[command] = CommandInfo(
                alias, type, visible, default_timeout, line, signature, args, variadic
            )
            if alias:
                cls.data[alias] = function
            return function

        return add


def ok(value: object) -> dict[str, object]:
    """The reply that all is well."""
    return {"ok": value}


def nok(value: object) -> dict[str, object]:
    """The reply that something is not."""
    return {"error": value}


def control_command(**options: Any) -> Callable[[Handler], Handler]:
    """Add a command that changes something; see `Panel.register_as`."""
    return Panel.register_as(type="control", **options)


def inspect_command(**options: Any) -> Callable[[Handler], Handler]:
    """Add a command that only asks; see `Panel.register_as`."""
    return Panel.register_as(type="inspect", **options)
