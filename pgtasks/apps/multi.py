"""Several workers on one machine: their names, their options, starting and stopping them.

What ``pgtasks multi`` does, under the names that Celery has for it. A node is a worker with
its command line; a cluster is some nodes; what was said about all of them, and about some
by ``-c:1-3 10``, comes out of `NamespacedOptionParser` and `MultiParser`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from subprocess import Popen
from typing import Any

from pgtasks.apps.cluster import Cluster, Told, tell
from pgtasks.apps.multi_options import NamespacedOptionParser
from pgtasks.platforms import IS_WINDOWS, Pidfile
from pgtasks.utils.nodenames import gethostname, host_format, node_format, nodesplit

__all__ = ["Cluster", "MultiParser", "NamespacedOptionParser", "Node"]

CELERY_EXE = "pgtasks"

#: How the program may be called in a command: what comes behind is the program's.
PROGRAMS = (CELERY_EXE, "celery")

#: Options of the program, which stand before its command.
GLOBAL_OPTIONS = frozenset(
    {
        "-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config",
        "--workdir", "-C", "--no-color", "-q", "--quiet", "--as-celery", "--skip-checks",
        "--debug",
    }
)  # fmt: skip

#: Those whose values are places.
PATHS = frozenset({"--pidfile", "-p", "--logfile", "-f", "--workdir"})

PIDFILE = "/var/run/celery/%n.pid"
LOGFILE = "/var/log/celery/%n%I.log"


def celery_exe(*args: str) -> str:
    """The program and some of its arguments, in one line."""
    return " ".join((CELERY_EXE, *args))


def build_nodename(name: str, prefix: str, suffix: str) -> tuple[str, str, str]:
    """Complete the name of a node.

    Args:
        name: A short name, or a whole one with ``@``.
        prefix: What short names begin with.
        suffix: The host of short names.

    Returns:
        Its short name, its whole name and its host.
    """
    if "@" in name:
        whole = host_format(name)
        short, host = nodesplit(whole)
        return short or "", whole, host
    return name, host_format(f"{prefix}{name}@{suffix}"), suffix


def build_expander(nodename: str, shortname: str, hostname: str) -> Callable[[str], str]:
    """Something that fills in a node's abbreviations; those of processes it leaves alone."""
    names = {"N": shortname, "d": hostname, "h": nodename, "i": "%i", "I": "%I"}
    return partial(node_format, name=nodename, **names)


def format_opt(opt: str, value: Any) -> str:
    """An option as it is written on a command line: ``--x=1``, ``-x 1``, or without value."""
    if not value:
        return opt
    text = str(value)
    if any(sign.isspace() or sign in "'\"\\" for sign in text):
        # What comes out is split again like a line of the shell.
        text = shlex.quote(text)
    return f"{opt}={text}" if opt.startswith("--") else f"{opt} {text}"


# ── a worker ────────────────────────────────────────────────────────────────────────────


class Node:
    """One worker: its name, its command line, and the process if it runs.

    Args:
        name: Its whole name, ``image@host``.
        cmd: What starts it; by default a worker in the background.
        append: Stands behind its options.
        options: Its options, by their flags.
        extra_args: What stands behind ``--``, with that.

    Attributes:
        argv: Its command line without the Python, in parts of one option each.
        expander: Fills in the abbreviations in a text.
    """

    def __init__(
        self,
        name: str,
        cmd: str | None = None,
        append: str | None = None,
        options: dict[str, Any] | None = None,
        extra_args: str | None = None,
    ) -> None:
        self.name = name
        self.cmd = cmd or f"-m {celery_exe('worker', '--detach')}"
        self.append = append
        self.extra_args = extra_args or ""
        self.options = {} if options is None else options
        self.options["-n"] = name
        for flag in PATHS & self.options.keys():
            # No shell sees what stands behind an equals sign.
            self.options[flag] = os.path.expanduser(self.options[flag] or "")
        self._default(("--pidfile", "-p"), PIDFILE)
        self._default(("--logfile", "-f"), LOGFILE)
        self.options.setdefault("--executable", sys.executable)
        shortname, _, hostname = name.partition("@")
        self.expander = build_expander(name, shortname, hostname)
        self.argv = self._command_line()
        self._pid: int | None = None

    def _default(self, flags: Sequence[str], path: str) -> None:
        long, *others = flags
        if any(flag in self.options for flag in others):
            return
        folder = os.path.dirname(self.options.setdefault(long, os.path.normpath(path)))
        if folder and not os.path.exists(folder):
            # Who only wants to look needs none, and whoever starts says what is missing.
            with contextlib.suppress(OSError):
                os.makedirs(folder)

    def _command_line(self) -> tuple[str, ...]:
        command = self.expander(self.cmd).split(" ")
        own: list[str] = []
        ahead: list[str] = []
        for flag, value in self.options.items():
            text = format_opt(flag, self.expander(value))
            (ahead if flag in GLOBAL_OPTIONS else own).append(text)
        if ahead:
            place = 1 + min(command.index(name) for name in PROGRAMS if name in command)
            command[place:place] = ahead
        line = [" ".join(command), *own, self.extra_args]
        return (*line, self.expander(self.append)) if self.append else tuple(line)

    @classmethod
    def from_kwargs(cls, name: str, **kwargs: Any) -> Node:
        """A node with options by keyword: ``max_tasks_per_child=30, Q="images"``."""
        return cls(
            name,
            options={
                f"-{key}" if len(key) == 1 else f"--{key.replace('_', '-')}": str(value)
                for key, value in kwargs.items()
            },
        )

    def getopt(self, *alt: str) -> Any:
        """The value of an option that may have several flags.

        Raises:
            KeyError: It has not been given.
        """
        for flag in alt:
            if flag in self.options:
                return self.options[flag]
        raise KeyError(alt[0])

    @cached_property
    def pidfile(self) -> str:
        """Where it keeps its process id."""
        # The worker fills in what is left of it once more.
        return node_format(self.expander(self.getopt("--pidfile", "-p")), self.name)

    @cached_property
    def logfile(self) -> str:
        """Where it logs."""
        return self.expander(self.getopt("--logfile", "-f"))

    @cached_property
    def executable(self) -> str:
        """The Python that runs it."""
        return str(self.options["--executable"])

    @cached_property
    def argv_with_executable(self) -> tuple[str, ...]:
        """Its whole command line, in parts."""
        return (self.executable, *self.argv)

    @property
    def pid(self) -> int | None:
        """Its process, as its pid file says; None if there is none."""
        if self._pid is not None:
            return self._pid
        try:
            return Pidfile(self.pidfile).read_pid()
        except ValueError:
            return None

    @pid.setter
    def pid(self, value: int | None) -> None:
        self._pid = value

    def alive(self) -> bool:
        """Whether its process is there."""
        return self.send(0)

    def send(self, sig: int, on_error: Told = None) -> bool:
        """Signal its process; False, with ``on_error`` told, if there is none.

        Raises:
            OSError: The system refuses, though there is such a process.
        """
        pid = self.pid
        if pid:
            try:
                os.kill(pid, sig)
            except OSError as error:
                # EPERM: the number is somebody else's by now, as ours would let us.
                if error.errno not in (errno.ESRCH, errno.EPERM):
                    raise
            else:
                return True
        tell(on_error, self)
        return False

    def start(self, env: Mapping[str, str] | None = None, **kwargs: Any) -> int:
        """Start it; the answer is the exit status of what starts it, 0 if all is well.

        Args:
            env: Its environment; this process's by default.
            **kwargs: ``on_spawn``, ``on_signalled`` and ``on_failure``, told of it.
        """
        return self._waitexec(self.argv, path=self.executable, env=env, **kwargs)

    def _waitexec(
        self,
        argv: Sequence[str],
        path: str = sys.executable,
        env: Mapping[str, str] | None = None,
        on_spawn: Told = None,
        on_signalled: Told = None,
        on_failure: Told = None,
    ) -> int:
        words = self.prepare_argv(argv, path)
        tell(on_spawn, self, argstr=" ".join(words), env=env)
        process = Popen(words, env=env)
        return self.handle_process_exit(
            process.wait(), on_signalled=on_signalled, on_failure=on_failure
        )

    def prepare_argv(self, argv: Sequence[str], path: str) -> list[str]:
        """The words that parts of a command line come to."""
        return shlex.split(
            " ".join([format_opt("", path).strip(), *argv]), posix=not IS_WINDOWS
        )

    def handle_process_exit(
        self, retcode: int, on_signalled: Told = None, on_failure: Told = None
    ) -> int:
        """Tell of an exit status that is no success; the answer is its absolute value."""
        if retcode < 0:
            tell(on_signalled, self, -retcode)
        elif retcode > 0:
            tell(on_failure, self, retcode)
        return abs(retcode)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


_Node = Node


class MultiParser:
    """Makes nodes out of what was said about them.

    Args:
        cmd: What starts a node, if not what does so by itself.
        append: Stands behind its options.
        prefix: What short names begin with.
        suffix: The host in them; this one by default.
        range_prefix: What names begin with where only a number of nodes was given.
    """

    Node = Node

    def __init__(
        self,
        cmd: str | None = None,
        append: str = "",
        prefix: str = "",
        suffix: str = "",
        range_prefix: str = "celery",
    ) -> None:
        self.cmd = cmd
        self.append = append
        self.prefix = prefix
        self.suffix = suffix
        self.range_prefix = range_prefix

    def parse(self, p: NamespacedOptionParser) -> Iterator[_Node]:
        """The nodes.

        Args:
            p: What was said, read. What was said by numbers it has by names after this.

        Raises:
            KeyError: An option is for a node that there is not.
        """
        options = dict(p.options)
        cmd = options.pop("--cmd", self.cmd)
        append = options.pop("--append", self.append)
        host = options.pop("-n", None)
        host = options.pop("--hostname", host) or gethostname()
        prefix = options.pop("--prefix", self.prefix) or ""
        suffix = options.pop("--suffix", self.suffix) or host
        if suffix in ('""', "''"):
            suffix = ""
        range_prefix = options.pop("--range-prefix", "") or self.range_prefix
        names = list(p.values)
        if len(names) == 1 and names[0].isdecimal():
            names = [str(number + 1) for number in range(int(names[0]))]
            prefix = range_prefix
        self._resolve(p, names)

        def make(name: str) -> _Node:
            short, whole, _ = build_nodename(name, prefix, suffix)
            known = whole if whole in p.namespaces else short
            return self.Node(whole, cmd, append, p.optmerge(known, options), p.passthrough)

        return map(make, names)

    def _resolve(self, p: NamespacedOptionParser, names: Sequence[str]) -> None:
        """Give each node the options of the lists and numbers that it is among, in order."""
        resolved: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for nodes, options in p.namespaces.items():
            for part in nodes.split(","):
                found = self._parse_ns_range(part, True)
                for each in found:
                    if not each.isdecimal():
                        resolved[each].update(options)
                    elif 1 <= int(each) <= len(names):
                        resolved[names[int(each) - 1]].update(options)
                    elif found == [part]:
                        # Of a range some may be there: the same line serves fewer nodes.
                        raise KeyError(
                            f"There is no node {each}: there are {len(names)}, from 1 on."
                        )
        p.namespaces = resolved

    def _parse_ns_range(self, ns: str, ranges: bool = False) -> list[str]:
        """The parts of a list, and with ``ranges`` the numbers of ``1-3`` in it."""
        found: list[str] = []
        for part in ns.split(","):
            first, dash, last = part.partition("-")
            if ranges and dash and first.isdecimal() and last.isdecimal():
                found += [str(number) for number in range(int(first), int(last) + 1)]
            else:
                found.append(part)
        return found
