"""The signals of the operating system by name, where it has them."""

from __future__ import annotations

import errno
import math
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["SIGMAP", "SIGNAMES", "Signals", "set_death_signal", "signal_name", "signals"]

SIGNAMES = {
    name for name in dir(signal) if name.startswith("SIG") and not name.startswith("SIG_")
}

#: Names of signals by their number.
SIGMAP: dict[int, str] = {getattr(signal, name): name for name in sorted(SIGNAMES)}


class Signals:
    """Reads and sets signal handlers: ``signals["INT"] = handler``.

    Signals that the platform lacks are passed over, so that a program can say what it
    wants of all of them.
    """

    ignored = signal.SIG_IGN
    default = signal.SIG_DFL

    def arm_alarm(self, seconds: float) -> Any:
        """Have SIGALRM sent after that many seconds, or parts of them."""
        if hasattr(signal, "setitimer"):
            return signal.setitimer(signal.ITIMER_REAL, seconds)
        return signal.alarm(math.ceil(seconds))

    def reset_alarm(self) -> int:
        """Have it not sent after all; the answer is the seconds that were left."""
        return signal.alarm(0)

    def supported(self, name: str | int) -> bool:
        """Whether the platform has this signal."""
        try:
            self.signum(name)
        except AttributeError:
            return False
        return True

    def signum(self, name: str | int) -> Any:
        """The number of a signal, ``INT`` or ``SIGINT``.

        Raises:
            AttributeError: The platform has no such signal.
            TypeError: It is no name in capitals.
        """
        if isinstance(name, int):
            return name
        if not isinstance(name, str) or not name.isupper():
            raise TypeError(f"signal name must be uppercase string, not {name!r}.")
        return getattr(signal, name if name.startswith("SIG") else f"SIG{name}")

    def reset(self, *signal_names: str | int) -> None:
        """Give signals back the handler that they have by default."""
        self.update((name, self.default) for name in signal_names)

    def ignore(self, *names: str | int) -> None:
        """Ignore signals."""
        self.update((name, self.ignored) for name in names)

    def update(
        self,
        _d_: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
        **sigmap: Callable[..., Any],
    ) -> None:
        """Set several handlers, of a mapping or by keyword."""
        for name, handler in {**dict(_d_ or {}), **sigmap}.items():
            self[name] = handler

    def __getitem__(self, name: str | int) -> Any:
        return signal.getsignal(self.signum(name))

    def __setitem__(self, name: str | int, handler: Any) -> None:
        try:
            signal.signal(self.signum(name), handler)
        except (AttributeError, ValueError):
            # No such signal here, or one that cannot be handled; or this is a thread,
            # and only the first one may set handlers.
            pass


signals = Signals()


def signal_name(signum: int) -> str:
    """Name of a signal by its number, without ``SIG``."""
    return SIGMAP[signum][3:]


def set_death_signal(number: int) -> None:
    """Have Linux send this process a signal when its parent dies."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "no such call on this system")
    import ctypes

    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    if ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, int(number)):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
