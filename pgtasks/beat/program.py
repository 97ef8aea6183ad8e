"""A beat as a program: its log, its banner, its signals, and the service that ticks."""

from __future__ import annotations

import signal
import sys
from datetime import datetime
from types import FrameType
from typing import Any

import pgtasks.beat as beat
from pgtasks import VERSION_BANNER, platforms
from pgtasks.beat.service import Service, scheduler_of
from pgtasks.utils.imports import qualname
from pgtasks.utils.time import humanize_seconds

__all__ = ["Beat"]


class Beat:
    """Sends the tasks of a schedule until told to stop; ``app.Beat(…).run()``.

    Args:
        max_interval: Longest time between two looks at the schedule, in seconds.
        app: The application.
        socket_timeout: Celery's.
        pidfile: File with the process id.
        no_color: Log without colours.
        loglevel: What is logged.
        logfile: And where; standard error by default.
        schedule: File for the moments of last runs; ``beat_schedule_filename`` by default.
        scheduler: The scheduler, or its name; see `scheduler_of` for the default.
        scheduler_cls: The same, under another name.
        redirect_stdouts: What is printed goes to the log.
        redirect_stdouts_level: As this.
        quiet: Print no banner.
        remote_control: Celery's; see `Service`.
        hostname: Name of the beat.
        **kwargs: Celery's.
    """

    Service: Any = Service
    app: Any = None

    def __init__(
        self,
        max_interval: float | None = None,
        app: Any = None,
        socket_timeout: float = 30,
        pidfile: str | None = None,
        no_color: bool | None = None,
        loglevel: str | int = "WARN",
        logfile: str | None = None,
        schedule: str | None = None,
        scheduler: Any = None,
        scheduler_cls: Any = None,
        redirect_stdouts: bool | None = None,
        redirect_stdouts_level: str | int | None = None,
        quiet: bool = False,
        remote_control: bool | None = None,
        hostname: str | None = None,
        **kwargs: Any,
    ) -> None:
        from pgtasks.app import app_or_default

        self.app = app_or_default(app or self.app)
        conf = self.app.conf

        def chosen(given: Any, setting: str) -> Any:
            return getattr(conf, setting) if given is None else given

        self.max_interval = max_interval
        self.pidfile = pidfile
        self.loglevel = loglevel
        self.logfile = logfile
        self.schedule = chosen(schedule, "beat_schedule_filename")
        self.scheduler_cls = scheduler or scheduler_cls or scheduler_of(self.app)
        self.redirect_stdouts = chosen(redirect_stdouts, "worker_redirect_stdouts")
        level = chosen(redirect_stdouts_level, "worker_redirect_stdouts_level")
        self.redirect_stdouts_level = level
        self.quiet = quiet
        self.remote_control = remote_control
        self.hostname = hostname
        self.colored = self.app.log.colored(
            logfile, enabled=None if no_color is None else not no_color
        )

    def run(self) -> None:
        """Run until told to stop."""
        if not self.quiet:
            said = f"celery beat v{VERSION_BANNER} is starting."
            print(str(self.colored.cyan(said)), flush=True)
        self.init_loader()
        self.set_process_title()
        self.start_scheduler()

    def init_loader(self) -> None:
        """Import the application's modules."""
        self.app.loader.init_worker()
        self.app.finalize()

    def set_process_title(self) -> None:
        """Name the process in the list of processes."""
        arguments = " ".join(sys.argv[1:])
        platforms.set_process_title("celery beat", info=arguments)

    def setup_logging(self, colorize: bool | None = None) -> None:
        """Begin to log."""
        if colorize is None:
            colorize = self.app.log.supports_color(colorize, self.logfile)
        self.app.log.setup(
            self.loglevel,
            self.logfile,
            self.redirect_stdouts,
            self.redirect_stdouts_level,
            colorize=colorize,
        )

    def start_scheduler(self) -> None:
        """Tick until told to stop."""
        if self.pidfile:
            platforms.create_pidlock(self.pidfile)
        service = self.Service(
            app=self.app,
            max_interval=self.max_interval,
            scheduler_cls=self.scheduler_cls,
            schedule_filename=self.schedule,
            remote_control=self.remote_control,
            hostname=self.hostname,
        )
        if not self.quiet:
            print(self.banner(service), flush=True)
        self.setup_logging()
        try:
            self.install_sync_handler(service)
            service.start()
        except Exception as error:
            beat.logger.critical(
                "beat raised exception %s: %r", type(error), error, exc_info=True
            )
            raise

    def install_sync_handler(self, service: Any) -> None:
        """Have SIGTERM and SIGINT write down the last runs before the process ends."""

        def stop(number: int, frame: FrameType | None) -> None:
            service.sync()
            raise SystemExit

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    def banner(self, service: Any) -> str:
        """What is printed at the start."""
        title = self.colored.blue("__    ", self.colored.magenta("-"))
        return f"{title}\n{self.startup_info(service)}"

    def startup_info(self, service: Any) -> str:
        """What will be done, with what, for people."""
        scheduler = service.get_scheduler(lazy=True)
        longest = scheduler.max_interval
        lines = [
            f"LocalTime -> {datetime.now():%Y-%m-%d %H:%M:%S}",
            "Configuration ->",
            f"    . broker -> {self.app.connection_for_read().as_uri()}",
            f"    . loader -> {qualname(self.app.loader)}",
            f"    . scheduler -> {qualname(scheduler)}",
            scheduler.info,
            f"    . logfile -> {self.logfile or '[stderr]'}@{self.loglevel}",
            f"    . maxinterval -> {humanize_seconds(longest)} ({longest}s)",
        ]
        return "\n".join(line for line in lines if line)
