"""From the options of ``pgtasks worker`` to a worker that takes jobs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pgtasks import signals
from pgtasks.app.detection import tell_of_idle
from pgtasks.cli.invocation import Failure, Invocation, started_in, users_traceback
from pgtasks.cli.process import EX_CANTCREAT, become, log_file, pid_file, warn_of_root
from pgtasks.cli.readiness import await_database
from pgtasks.exceptions import SecurityWarning
from pgtasks.platforms import set_mp_process_title, strargv
from pgtasks.utils.nodenames import WORKER_DIRECT_QUEUE_FORMAT, node_format

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.cli.background import Detached
    from pgtasks.worker.persistent import Persistent
    from pgtasks.worker.worker import Worker

__all__ = ["Start"]

logger = logging.getLogger("celery.worker")


class Start:
    """One start of a worker.

    The order is Celery's, whose signals programs hang their own settings up on. Nothing
    here starts a thread or keeps a connection: the worker forks its children first.

    Args:
        invocation: What was said about the application.
        options: What was said about the worker.
        without_effect: Options that were given and change nothing.
        settings: Further words, ``worker.prefetch_multiplier=1``.
        background: Whoever waits for it, if it was sent to the background.
    """

    def __init__(
        self,
        invocation: Invocation,
        options: dict[str, Any],
        *,
        without_effect: Sequence[str] = (),
        settings: Sequence[str] = (),
        background: Detached | None = None,
    ) -> None:
        self.invocation = invocation
        self.options = options
        self.hostname: str = options.pop("hostname")
        self.app: Celery = invocation.application
        self._without_effect = without_effect
        self._settings = settings
        self._background = background
        self._noted: list[int] = []
        self._restarts = False

    def run(self) -> int:
        """Work until stopped; the answer is the exit status."""
        with self._background.starting() if self._background else contextlib.nullcontext():
            status = self._run()
        if self._restarts:
            from pgtasks.worker.shutdown import restart

            if self._background:
                self._background.stay()
            restart(started_in())
        return status

    def _run(self) -> int:
        become(*(self._daemon_option(name) for name in ("uid", "gid", "umask")))
        self._configure()
        warning = warn_of_root(self.app.conf.accept_content or ())
        with pid_file(self._path("pidfile")):
            worker = self._make_worker()
            statedb = self._open_statedb()
            custom_logging = self._set_up_logging(warning)
            tell_of_idle(self.app.conf)
            self.app.conf.maybe_warn_deprecated_settings()
            signals.celeryd_after_setup.send(
                sender=self.hostname, instance=worker, conf=self.app.conf
            )
            # Receivers may have chosen queues by app.amqp.queues.
            worker.queues[:] = self._queues()
            await_database(self.app, logger)
            if self.options.pop("purge"):
                count = self.app.control.purge(queues=worker.queues)
                logger.warning("Purged %d jobs from %s.", count, ", ".join(worker.queues))
            self._show_banner(worker)
            if not custom_logging and self.app.conf.worker_redirect_stdouts:
                self.app.log.redirect_stdouts(self.app.conf.worker_redirect_stdouts_level)
            # No connection may be open when the worker forks; it opens its own later.
            self.app.database.close()
            set_mp_process_title("pgtasks", f"({strargv(sys.argv)})", self.hostname)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, self._note_signal)
            try:
                status = worker.start()
            finally:
                if statedb is not None:
                    statedb.save()
            self.app.loader.shutdown_worker()
            self._restarts = worker.restarts
            return status

    def _note_signal(self, number: int, frame: object) -> None:
        """Keep a request to stop until the worker is there to be stopped."""
        if self._noted:
            os._exit(128 + number)
        self._noted.append(number)

    def _at_ready(self, worker: Worker) -> None:
        from pgtasks.worker.shutdown import install_signal_handlers

        install_signal_handlers(worker)
        logger.info("%s ready.", worker.hostname)
        if self._background:
            self._background.ready()
        for number in self._noted:
            os.kill(os.getpid(), number)

    # ── settings ────────────────────────────────────────────────────────────────────────

    def _daemon_option(self, name: str) -> Any:
        value = self.options.pop(name)
        # What is not in the settings when options are read may be by now.
        return self.app.conf.get(f"worker_{name}") if value is None else value

    def _path(self, name: str) -> str | None:
        return self._filled_in(self._daemon_option(name))

    def _filled_in(self, path: Any) -> str | None:
        return None if path is None else node_format(str(path), self.hostname)

    def _open_statedb(self) -> Persistent | None:
        """What a program has revoked in ``worker.state`` itself, kept from start to start."""
        path = self.options["statedb"] or self.app.conf.worker_state_db
        if not path:
            return None
        from pgtasks.worker import state

        filled_in = self._filled_in(path)
        try:
            return state.Persistent(state, str(filled_in))
        except Exception as error:
            # Of whatever kind of file there is, which the system chooses.
            raise Failure(
                f"Cannot open the state database {filled_in}: {error}. Choose another place "
                f"with --statedb, or delete it: ids that were revoked through the "
                f"application are in PostgreSQL.",
                EX_CANTCREAT,
            ) from error

    def _configure(self) -> None:
        if self._settings:
            shown = " ".join(self._settings)
            if any("=" not in word for word in self._settings):
                raise click.UsageError(f"Got unexpected words: {shown}")
            try:
                self.app.config_from_cmdline(self._settings, namespace="worker")
            except (KeyError, ValueError, TypeError) as error:
                raise click.UsageError(
                    f"Cannot read the settings {shown!r}: {error!r}. Write them with their "
                    f"whole names, as worker.poll_interval=2, behind all options."
                ) from error
        interval = self.options.pop("heartbeat_interval")
        if interval:
            self.app.conf.worker_heartbeat_interval = interval

    def _make_worker(self) -> Worker:
        from pgtasks.worker.worker import Worker

        app, options = self.app, self.options
        self._import(app.loader.init_worker)
        # As in Celery, receivers meet a worker that has not been told anything yet: they
        # may still change the settings that it will read.
        worker = Worker.__new__(Worker)
        worker.app, worker.hostname = app, self.hostname
        signals.celeryd_init.send(
            sender=self.hostname, instance=worker, conf=app.conf, options=options
        )
        for module in options.pop("include") or ():
            self._import(app.loader.import_task_module, module)
        app.finalize()
        wanted, queue_limits = _apart(options.pop("queues"))
        self._wanted = wanted, options.pop("exclude_queues") or []
        queues = self._queues(select=True)
        kept = ("purge", "executable")
        Worker.__init__(
            worker,
            app,
            self.hostname,
            queues=queues,
            queue_limits=queue_limits,
            ready_callback=self._at_ready,
            **{name: value for name, value in options.items() if name not in kept},
        )
        return worker

    def _import(self, load: Callable[..., Any], *args: Any) -> None:
        """Import the program's modules; of what goes wrong there its author wants to see."""
        try:
            load(*args)
        except Exception as error:
            raise Failure(
                f"Importing the modules of the application failed.\n\n{users_traceback()}"
            ) from error

    def _queues(self, *, select: bool = False) -> list[str]:
        """The queues to serve, by -Q and -X, else those that the application declares."""
        conf = self.app.conf
        wanted, unwanted = self._wanted
        # kombu's queues cost 26 MB; without declarations a queue is its name.
        if conf.task_queues is not None or "amqp" in vars(self.app) or _may_choose_queues():
            queues = self.app.amqp.queues
            try:
                if select:
                    self.app.select_queues(wanted)
            except KeyError as error:
                raise _unknown_queue(str(error.args[0]), list(queues)) from error
            queues.deselect(unwanted)
            names = list(queues.consume_from)
        else:
            names = [name for name in wanted or [conf.task_default_queue]]
            for name in names:
                if not conf.task_create_missing_queues and name != conf.task_default_queue:
                    raise _unknown_queue(name, [conf.task_default_queue])
            names = [name for name in names if name not in unwanted]
        if conf.worker_direct:
            names.append(WORKER_DIRECT_QUEUE_FORMAT.format(hostname=self.hostname))
        if not names:
            raise Failure("There is no queue left to serve: -X excludes all of them.", 2)
        return names

    # ── what people see ─────────────────────────────────────────────────────────────────

    def _set_up_logging(self, warning: str | None) -> Any:
        # As it was written: each process fills in its own number.
        pattern = self._daemon_option("logfile")
        logfile = self._filled_in(pattern)
        with log_file(logfile):
            custom = self.app.log.setup(
                self.options["loglevel"],
                None if pattern is None else str(pattern),
                redirect_stdouts=False,
                colorize=self.invocation.out.color,
                hostname=self.hostname,
            )
        if self._background:
            self._background.log_to(logfile)
        if warning:
            logger.warning("%s: %s", SecurityWarning.__name__, warning)
        if self._without_effect:
            logger.warning(
                "Accepted and without effect: %s. See 'pgtasks worker --help'.",
                ", ".join(self._without_effect),
            )
        if self.invocation.app is None:
            logger.warning(
                "No application was named, so this worker knows none of your tasks. "
                "Name it: pgtasks -A proj worker"
            )
        return custom

    def _show_banner(self, worker: Worker) -> None:
        if self.invocation.quiet:
            return
        from pgtasks.worker.banner import banner

        level = self.options["loglevel"]
        text = banner(
            self.app,
            hostname=self.hostname,
            concurrency=_places(worker),
            pool=worker.pool_name,
            queues=worker.queues,
            lease=float(self.app.conf.worker_lease),
            task_events=worker.task_events,
            tasks=level <= logging.INFO,
            builtins=level <= logging.DEBUG,
        )
        colored = self.app.log.colored(enabled=self.invocation.out.color)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(colored.cyan(text), file=sys.__stdout__, flush=True)


def _apart(words: list[str] | None) -> tuple[list[str] | None, dict[str, int]]:
    """The names of queues and their limits: ``mailers:20`` is of 20 jobs at a time."""
    if words is None:
        return None, {}
    names, limits = [], {}
    for word in words:
        name, colon, limit = word.rpartition(":")
        if colon and name and limit.isdecimal():
            limits[name] = int(limit)
            names.append(name)
        else:
            names.append(word)
    return names, limits


def _places(worker: Worker) -> str:
    if worker.autoscale:
        return f"{{min={worker.min_concurrency}, max={worker.max_concurrency}}}"
    return str(worker.concurrency)


def _may_choose_queues() -> bool:
    return bool(signals.celeryd_after_setup.receivers or signals.celeryd_init.receivers)


def _unknown_queue(name: str, known: list[str]) -> Failure:
    return Failure(
        f"There is no queue {name!r} among those that the application declares "
        f"({', '.join(known)}), and task_create_missing_queues is off. Correct -Q, or "
        f"declare it in task_queues.",
        2,
    )
