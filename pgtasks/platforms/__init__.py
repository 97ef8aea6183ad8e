"""What differs from system to system: daemons, users, descriptors, signals, titles.

The modules below look up here what they take from each other, and Python's modules that
not every system has: here is where it can be replaced.
"""

from __future__ import annotations

import os as os
import platform
from collections.abc import Sequence
from multiprocessing import current_process
from typing import Any

from pgtasks.utils.proxy import try_import

# Modules that not every system, or installation, has.
_setproctitle: Any = try_import("setproctitle")
resource: Any = try_import("resource")
pwd: Any = try_import("pwd")
grp: Any = try_import("grp")
mputil: Any = try_import("multiprocessing.util")

from pgtasks.platforms.daemon import (  # noqa: E402
    DAEMON_WORKDIR,
    PIDLOCKED,
    DaemonContext,
    create_pidlock,
    detached,
)
from pgtasks.platforms.daemon import _create_pidlock as _create_pidlock  # noqa: E402
from pgtasks.platforms.descriptors import (  # noqa: E402
    BSD,
    close_open_fds,
    close_range,
    fd_by_path,
    get_fdmax,
)
from pgtasks.platforms.descriptors import _dev_fd_is_fdescfs as _dev_fd_is_fdescfs  # noqa: E402
from pgtasks.platforms.descriptors import _open_fds as _open_fds  # noqa: E402
from pgtasks.platforms.os_signals import (  # noqa: E402
    SIGMAP,
    SIGNAMES,
    Signals,
    set_death_signal,
    signal_name,
    signals,
)
from pgtasks.platforms.pidfile import (  # noqa: E402
    PIDFILE_FLAGS,
    PIDFILE_MODE,
    LockFailed,
    Pidfile,
    get_errno_name,
    ignore_errno,
)
from pgtasks.platforms.users import (  # noqa: E402
    ASSUMING_ROOT,
    ROOT_DISALLOWED,
    ROOT_DISCOURAGED,
    check_privileges,
    initgroups,
    maybe_drop_privileges,
    parse_gid,
    parse_uid,
    setgid,
    setgroups,
    setuid,
)
from pgtasks.platforms.users import _setgroups_hack as _setgroups_hack  # noqa: E402

__all__ = [
    "ASSUMING_ROOT",
    "DAEMON_WORKDIR",
    "EX_CANTCREAT",
    "EX_FAILURE",
    "EX_OK",
    "EX_UNAVAILABLE",
    "EX_USAGE",
    "IS_WINDOWS",
    "PIDFILE_FLAGS",
    "PIDFILE_MODE",
    "PIDLOCKED",
    "ROOT_DISALLOWED",
    "ROOT_DISCOURAGED",
    "SIGMAP",
    "SIGNAMES",
    "SYSTEM",
    "DaemonContext",
    "IS_macOS",
    "LockFailed",
    "PIDFile",
    "Pidfile",
    "Signals",
    "check_privileges",
    "close_open_fds",
    "create_pidlock",
    "detached",
    "fd_by_path",
    "get_errno_name",
    "get_fdmax",
    "get_signal",
    "ignore_errno",
    "ignore_signal",
    "initgroups",
    "install_signal_handler",
    "isatty",
    "maybe_drop_privileges",
    "parse_gid",
    "parse_uid",
    "pyimplementation",
    "reset_signal",
    "set_mp_process_title",
    "set_pdeathsig",
    "set_process_title",
    "setgid",
    "setgroups",
    "setuid",
    "signal_name",
    "signals",
    "strargv",
]

EX_OK = getattr(os, "EX_OK", 0)
EX_FAILURE = 1
EX_UNAVAILABLE = getattr(os, "EX_UNAVAILABLE", 69)
EX_USAGE = getattr(os, "EX_USAGE", 64)
EX_CANTCREAT = getattr(os, "EX_CANTCREAT", 73)

SYSTEM = platform.system()
IS_macOS = SYSTEM == "Darwin"
IS_WINDOWS = SYSTEM == "Windows"

#: Where the system lists the descriptors of a process.
_FD_DIR = "/dev/fd" if IS_macOS or SYSTEM in BSD else "/proc/self/fd"

# Other names of the same, some of which are there to be replaced.
PIDFile = Pidfile
get_signal = signals.signum
install_signal_handler = signals.__setitem__
reset_signal = signals.reset
ignore_signal = signals.ignore
_billiard_close_open_fds = close_range
_set_pdeathsig = set_death_signal


def isatty(fh: Any) -> Any:
    """Whether a file is a terminal."""
    try:
        return fh.isatty()
    except AttributeError:
        return None


def pyimplementation() -> str:
    """The name of this Python, such as ``CPython``."""
    return platform.python_implementation()


def set_pdeathsig(name: str | int) -> None:
    """Have a signal sent to this process when its parent dies, where that is possible."""
    if signals.supported(name):
        try:
            _set_pdeathsig(signals.signum(name))
        except OSError:
            pass


def strargv(argv: Sequence[str]) -> str:
    """The arguments of a program in one line, without its name."""
    return " ".join(argv[2 if "manage" in argv[0] else 1 :])


def _find_option_with_arg(
    argv: Sequence[str],
    short_opts: Sequence[str] | None = None,
    long_opts: Sequence[str] | None = None,
) -> str:
    """The value of an option of a program, before anything has parsed its arguments.

    Raises:
        KeyError: It is not among them.
    """
    for place, word in enumerate(argv):
        name, given, value = word.partition("=")
        if name.startswith("--") and name in (long_opts or ()):
            return value if given else argv[place + 1]
        if word in (short_opts or ()):
            return argv[place + 1]
    raise KeyError("|".join((*(short_opts or ()), *(long_opts or ()))))


def set_process_title(progname: str, info: str | None = None) -> str:
    """Set what ``ps`` shows, if the package ``setproctitle`` is installed."""
    title = f"[{progname}] {info}" if info else f"[{progname}]"
    if _setproctitle:
        _setproctitle.setproctitle(title)
    return title


def set_mp_process_title(
    progname: str, info: str | None = None, hostname: str | None = None
) -> str | None:
    """Set what ``ps`` shows to program, node and process; not if ``NOSETPS`` is set."""
    if os.environ.get("NOSETPS"):
        return None
    program = f"{progname}: {hostname}" if hostname else progname
    return set_process_title(f"{program}:{current_process().name}", info=info)
