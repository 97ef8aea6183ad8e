"""Cameras: objects that are shown the picture of a cluster every so often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgtasks import platforms
from pgtasks.app import app_or_default
from pgtasks.utils.dispatch import Signal
from pgtasks.utils.imports import instantiate
from pgtasks.utils.log import get_logger
from pgtasks.utils.time import rate

__all__ = ["Polaroid", "evcam"]

logger = get_logger("celery.evcam")


class Polaroid:
    """A camera; a subclass says in `on_shutter` what to do with a picture.

    Args:
        state: The picture, a `pgtasks.events.state.State`.
        freq: Seconds between shots.
        maxrate: At most so many: ``10/m``.
        cleanup_freq: Seconds between calls of `on_cleanup`.
        timer: Calls them, with ``call_repeatedly``.
        app: The application.
    """

    timer: Any = None
    shutter_signal = Signal(name="shutter_signal", providing_args={"state"})
    cleanup_signal = Signal(name="cleanup_signal")
    #: Forget the picture after each shot.
    clear_after = False

    _tref: Any = None
    _ctref: Any = None

    def __init__(
        self,
        state: Any,
        freq: float = 1.0,
        maxrate: Any = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: Any = None,
    ) -> None:
        self.app = app_or_default(app)
        self.state = state
        self.freq = freq
        self.cleanup_freq = cleanup_freq
        self.timer = timer or self.timer or _timer()
        self.logger = logger
        self.maxrate = maxrate and _bucket(maxrate)

    def install(self) -> None:
        """Begin."""
        self._tref = self.timer.call_repeatedly(self.freq, self.capture)
        self._ctref = self.timer.call_repeatedly(self.cleanup_freq, self.cleanup)

    def cancel(self) -> None:
        """End, after a last shot of what has come since the one before."""
        if self._tref:
            self._tref()
            self._tref.cancel()
        if self._ctref:
            self._ctref.cancel()

    def __enter__(self) -> Polaroid:
        self.install()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()

    def capture(self) -> None:
        """Take a shot while nothing moves."""
        self.state.freeze_while(self.shutter, clear_after=self.clear_after)

    def shutter(self) -> None:
        """Take a shot, unless there were enough."""
        if self.maxrate is None or self.maxrate.can_consume():
            self.logger.debug("Shutter: %s", self.state)
            self.shutter_signal.send(sender=self.state)
            self.on_shutter(self.state)

    def cleanup(self) -> None:
        """Tidy up."""
        self.logger.debug("Cleanup: Running...")
        self.cleanup_signal.send(sender=self.state)
        self.on_cleanup()

    def on_shutter(self, state: Any) -> None:
        """Do something with a picture; for subclasses."""

    def on_cleanup(self) -> None:
        """Remove what is old; for subclasses."""


def evcam(
    camera: Any,
    freq: float = 1.0,
    maxrate: Any = None,
    loglevel: Any = 0,
    logfile: str | None = None,
    pidfile: str | None = None,
    timer: Any = None,
    app: Any = None,
    on_ready: Callable[[], Any] | None = None,
    **kwargs: Any,
) -> None:
    """Run a camera until interrupted.

    Args:
        camera: The class, or its name.
        freq: Seconds between shots.
        maxrate: At most so many.
        loglevel: What to log.
        logfile: And where.
        pidfile: File with the process id.
        timer: As `Polaroid`'s.
        app: The application.
        on_ready: Called when it begins.
        **kwargs: Celery's.
    """
    app = app_or_default(app)
    if pidfile:
        platforms.create_pidlock(pidfile)
    app.log.setup_logging_subsystem(loglevel, logfile)
    print(f"-> evcam: Taking snapshots with {camera} (every {freq} secs.)")
    state = app.events.State()
    taker = instantiate(camera, state, app=app, freq=freq, maxrate=maxrate, timer=timer)
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": state.event})
        taker.install()
        if on_ready is not None:
            on_ready()
        try:
            receiver.capture(limit=None)
        except KeyboardInterrupt as interrupt:
            raise SystemExit from interrupt
        finally:
            taker.cancel()


def _timer() -> Any:
    from pgtasks.utils.timer2 import Timer

    return Timer()


def _bucket(maxrate: Any) -> Any:
    from kombu.utils.limits import TokenBucket

    return TokenBucket(rate(maxrate))
