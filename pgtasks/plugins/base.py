"""What a plugin is: a name, an interval, and something to do at each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pgtasks.storage.database import Database
    from pgtasks.storage.leaders import Seat

__all__ = ["Plugin", "as_age", "check_options"]


class Plugin:
    """Something that workers do every now and then.

    A subclass says what in `run`, and how often by ``interval``. A worker makes one of it
    at its start, in its parent process, and runs it in a thread of its own. What it raises
    is logged with its name; it runs again at its next turn.

    ::

        class Gossip(Plugin):
            name = "gossip"
            interval = 30.0
            leader_only = True
            options = {"channel": "#ops"}

            def run(self):
                told = tell(self.options["channel"])
                return {"told_count": told}

    Attributes:
        name: By which it is known in the setting ``plugins``, in logs and in telemetry.
        interval: Seconds between two runs, unless the setting says otherwise.
        leader_only: Only one worker of all runs it at a time.
        options: Options that the setting may give, and their defaults; ``interval`` is one
            anyway. Of an instance: their values.
        seat: What `leader_only` plugins carry into their statements: who we are as the
            leader; None while another one leads.
        node: Name of the worker that runs it.
    """

    name: str = ""
    interval: float = 60.0
    leader_only: bool = False
    options: ClassVar[Mapping[str, Any]] = {}

    seat: Seat | None = None
    node: str = ""

    def __init__(self, app: Any, **given: Any) -> None:
        self.app = app
        self.name = self.name or type(self).__name__.lower()
        known = {"interval": self.interval, **type(self).options}
        check_options(self.name, given, known)
        values = {**known, **given}
        self.interval = as_age(f"plugins[{self.name!r}]['interval']", values["interval"])
        self.options = values  # type: ignore[misc]
        self._is_stopping: Callable[[], bool] = lambda: False
        self._wake: Callable[[], None] = lambda: None
        self.validate()

    def validate(self) -> None:
        """Look at ``self.options``; for subclasses, who raise ValueError or TypeError."""

    def run(self) -> Mapping[str, Any] | None:
        """Do it once.

        Returns:
            What was done, as numbers by name, for telemetry. With ``"again": True`` it runs
            again at once: what takes long is done in pieces. With ``"again_in"``, seconds, it
            runs again then, and not after its interval.
        """
        raise TypeError(f"{type(self).__name__} has nothing to do: override run().")

    @property
    def database(self) -> Database:
        """The application's database."""
        database: Database = self.app.database
        return database

    @property
    def stopping(self) -> bool:
        """Whether the worker is about to end: what takes long should leave off."""
        return self._is_stopping()

    def wake(self) -> None:
        """Have it run now; may be called by any thread."""
        self._wake()

    def close(self) -> None:
        """Let go of what it holds; called when the worker has stopped running it."""

    def bind(
        self,
        is_stopping: Callable[[], bool],
        wake: Callable[[], None] = lambda: None,
        node: str = "",
    ) -> None:
        """Let it know the worker; called by the worker.

        Args:
            is_stopping: Whether the worker stops.
            wake: Has the plugin run at once.
            node: Name of the worker.
        """
        self._is_stopping = is_stopping
        self._wake = wake
        self.node = node

    def __repr__(self) -> str:
        return f"<Plugin {self.name} every {self.interval:g} s>"


def check_options(name: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse options that nobody knows.

    Raises:
        ValueError: There is one.
    """
    for option in given:
        if option not in known:
            near = get_close_matches(str(option), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"The plugin {name!r} has no option {option!r}.{hint} It has "
                f"{', '.join(sorted(known))}."
            )


def as_age(what: str, value: Any) -> float:
    """A positive number of seconds, or a timedelta, as seconds.

    Raises:
        TypeError: It is neither.
        ValueError: It is not positive.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is {value!r}: give seconds, or a timedelta.")
    if not 0 < value < 1e11:
        raise ValueError(f"{what} is {value!r}: give a positive number of seconds.")
    return float(value)
