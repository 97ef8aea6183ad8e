"""What ``pgtasks multi`` says: how it is used, and what happens to the nodes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pgtasks import VERSION_BANNER
from pgtasks.platforms import EX_FAILURE, EX_OK
from pgtasks.utils import term
from pgtasks.utils.text import pluralize

if TYPE_CHECKING:
    from pgtasks.apps.multi import Node

__all__ = ["HELP", "USAGE", "Teller", "TermLogger"]

USAGE = """\
Usage: {prog_name} COMMAND NODES [WORKER OPTIONS]

NODES are names, as in 'mails reports', or a number: 3 stands for celery1 to celery3.

    start         start them                  restart       stop them, start them anew
    stop          tell them to stop           stopwait      and wait until they have
    kill          SIGKILL, jobs and all       stop_verify   the same as stopwait
    show          print what start would do   names         print their names
    get NODE …    print how one is started    expand TEXT … fill in %h, %n, %d
    help          more of this

stop, stopwait and restart take the signal as an option: -INT, -QUIT; TERM by default.
Of --quiet, --verbose, --nosplash and --no-color each says how much is printed.
"""

HELP = """\
Start several workers on this machine, stop them, start them anew.

  One worker of a name, and three with numbers:

    $ pgtasks -A proj multi start images -l INFO
    $ pgtasks -A proj multi start 3 -c 3
    pgtasks worker -n celery1@myhost -c 3
    pgtasks worker -n celery2@myhost -c 3
    pgtasks worker -n celery3@myhost -c 3

  Nothing of it is kept, so that restarting takes the same words again, and stopping
  the same pid files:

    $ pgtasks -A proj multi restart images -l INFO --pidfile=run/%n.pid
    $ pgtasks multi stopwait images --pidfile=run/%n.pid

  Pid files are /var/run/celery/%n.pid and logs /var/log/celery/%n%I.log, unless
  --pidfile and --logfile name others; %n is the name of the node, %h the whole one
  with its host, %I the number of a process.

  Options for some nodes have those behind a colon: names, numbers, numbers from-to.

    $ pgtasks -A proj multi start 4 -l INFO -Q:1-2 mailers -Q:3 reports,imports -Q default
    $ pgtasks -A proj multi start mails reports imports -c 2 -c:mails 8

  Names may be whole ones. Else the host is this one, or --hostname (--suffix), and
  what stands before them is --prefix; before numbers, --range-prefix.

    $ pgtasks -A proj multi start mails@worker.example.com reports@%h
    $ pgtasks -A proj multi start 2 --range-prefix=worker --hostname=example.com

  --cmd is what starts a node in place of '-m pgtasks worker --detach', --append
  stands at the end of it, --executable is the Python.

  'show' prints the commands and starts nothing.
"""


class TermLogger:
    """Says what happens, as loud as one wants it."""

    splash_text = "pgtasks multi v{version}"
    splash_context: Mapping[str, str] = {"version": VERSION_BANNER}
    prog_name = "pgtasks multi"

    #: Exit status in the end.
    retcode = 0

    def setup_terminal(
        self,
        stdout: Any,
        stderr: Any,
        nosplash: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        no_color: bool = False,
        **kwargs: Any,
    ) -> None:
        """Say where to print, and how much."""
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.nosplash = nosplash
        self.quiet = quiet
        self.verbose = verbose
        self.no_color = no_color

    def say(self, m: object, newline: bool = True, file: Any = None) -> None:
        """Print in any case."""
        print(m, file=file or self.stdout, end="\n" if newline else "", flush=True)

    def ok(self, m: object, newline: bool = True, file: Any = None) -> int:
        """Print an answer, which is a success."""
        self.say(m, newline, file)
        return EX_OK

    def carp(self, m: object, newline: bool = True, file: Any = None) -> None:
        """Print to standard error."""
        self.say(m, newline, file or self.stderr)

    def error(self, msg: object = None) -> int:
        """Print what is wrong, and how it is used."""
        if msg:
            self.carp(msg)
        self.usage()
        return EX_FAILURE

    def note(self, msg: object, newline: bool = True) -> None:
        """Print unless it is to be quiet."""
        if not self.quiet:
            self.say(msg, newline)

    def info(self, msg: object, newline: bool = True) -> None:
        """Print if it is to say more."""
        if self.verbose:
            self.note(msg, newline)

    def usage(self) -> None:
        """Print how it is used."""
        self.splash()
        self.say(USAGE.format(prog_name=self.prog_name))

    def splash(self) -> None:
        """Print what program this is."""
        if not self.nosplash:
            self.note(self.colored.cyan(self.splash_text.format(**self.splash_context)))

    @cached_property
    def colored(self) -> term.colored:
        """Colours text, if there are to be colours."""
        return term.colored(enabled=not self.no_color)


class Teller(TermLogger):
    """Says what happens to nodes: what a cluster is to tell, by its names for it."""

    def on_stopping_preamble(self, nodes: Sequence[Node]) -> None:
        """They are about to be stopped."""
        self.note(self.colored.blue("> Stopping nodes..."))

    def on_send_signal(self, node: Node, sig: str) -> None:
        """One is about to be signalled."""
        self.note(f"\t> {node.name}: {sig} -> {node.pid}")

    def on_still_waiting_for(self, nodes: Sequence[Node]) -> None:
        """These have not ended."""
        if nodes:
            count = len(nodes)
            pids = ", ".join(str(node.pid) for node in nodes)
            text = f"> Waiting for {count} {pluralize(count, 'node')} -> {pids}..."
            self.note(self.colored.blue(text), newline=False)

    def on_still_waiting_progress(self, nodes: Sequence[Node]) -> None:
        """Another look whether they have."""
        self.note(".", newline=False)

    def on_still_waiting_end(self) -> None:
        """All have."""
        self.note("")

    def on_node_start(self, node: Node) -> None:
        """One is about to be started."""
        self.note(f"\t> {node.name}: ", newline=False)

    def on_node_restart(self, node: Node) -> None:
        """One is about to be started anew."""
        self.note(self.colored.blue(f"> Restarting node {node.name}: "), newline=False)

    def on_node_shutdown_ok(self, node: Node) -> None:
        """One has ended."""
        self.note(f"\n\t> {node.name}: {self.OK}")

    def on_node_status(self, node: Node, retval: int) -> None:
        """One has been started, or not."""
        self.note(self.FAILED if retval else self.OK)

    def on_node_signal(self, node: Node, sig: str) -> None:
        """One is about to be signalled."""
        self.note(f"Sending {sig} to node {node.name} ({node.pid})")

    def on_node_signal_dead(self, node: Node) -> None:
        """One was not there to be signalled."""
        self.note(f"Could not signal {node.name} ({node.pid}): No such process")

    def on_node_down(self, node: Node) -> None:
        """One does not run."""
        self.note(f"> {node.name}: {self.DOWN}")

    def on_child_spawn(self, node: Node, argstr: str, env: Any) -> None:
        """A process is about to be started."""
        self.info(f"  {argstr}")

    def on_child_signalled(self, node: Node, signum: int) -> None:
        """What was started was ended by a signal."""
        self.note(f"* Child was terminated by signal {signum}")

    def on_child_failure(self, node: Node, retcode: int) -> None:
        """What was started has failed."""
        self.note(f"* Child terminated with exit code {retcode}")

    @cached_property
    def OK(self) -> str:
        """The word, in green."""
        return str(self.colored.green("OK"))

    @cached_property
    def FAILED(self) -> str:
        """The word, in red."""
        return str(self.colored.red("FAILED"))

    @cached_property
    def DOWN(self) -> str:
        """The word, in magenta."""
        return str(self.colored.magenta("DOWN"))
