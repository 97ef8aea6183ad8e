"""LISTEN for all of one process: one thread, one connection, any number of subscribers.

A notification is a hint that it may pay to look now (R26). It may come twice, late or
not at all, and anyone who can connect may send one; so nothing is believed that it says,
and whoever subscribes polls as well, seldom while `Notifier.listening`, else often.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING

from psycopg import sql

from pgtasks.storage.connections import Session
from pgtasks.storage.database import Database, full_jitter
from pgtasks.storage.errors import StorageError
from pgtasks.storage.query import Query, in_schema
from pgtasks.telemetry import registry as telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Callback", "Notifier"]

logger = logging.getLogger(__name__)

Callback = Callable[[str | None], object]

# R28: the session of a listener that stopped reading holds a snapshot, which stops
# vacuum in the whole cluster, and pins the queue of all notifications.
_SETTINGS = {"tcp_user_timeout": "15000", "idle_session_timeout": "0"}


class Notifier:
    """Calls back when PostgreSQL notifies.

    The thread starts with the first subscription. It reconnects by itself, and ends,
    with its connection, when nobody has been subscribed for ``linger`` seconds. A forked
    child begins without subscriptions: the callbacks are the parent's business.

    Args:
        database: Where to listen; through its ``direct_url`` if it has one, because
            PgBouncer in transaction mode takes a LISTEN and then delivers nothing.
        linger: Seconds for which a channel without subscribers is still listened to.
    """

    def __init__(self, database: Database, *, linger: float = 30.0) -> None:
        self.database = database
        self.linger = linger
        self._listener: _Listener | None = None
        self._begin()
        _notifiers.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition()
        self._subscriptions: list[_Subscription] = []
        if self._listener is not None:
            self._listener.abandon()
        self._listener = None
        self._deaf = False

    def subscribe(self, channel: str, callback: Callback) -> Callable[[], None]:
        """Have ``callback`` called with the payload of each notification on ``channel``.

        It runs in the notifier's thread and must be quick: set an event, feed a queue.
        It is called with None when listening begins, and begins again after a lost
        connection: look yourself, you may have missed something.

        Args:
            channel: As in SQL, ``pgtasks.jobs``; it moves along with the schema.
            callback: What it raises is logged and otherwise ignored.

        Returns:
            A function that ends the subscription. A call under way in the thread may
            still be running when it returns.
        """
        subscription = _Subscription(in_schema(channel, self.database.schema), callback)
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._subscriptions = [*self._subscriptions, subscription]
            if self._listener is None and not self._deaf:
                self._listener = _Listener(self)
            if self._listener is not None:
                self._listener.nudge()
        # It may be to what the listener hears already, and then it has no news to tell.
        self.announce()

        def unsubscribe() -> None:
            with self._lock:
                self._subscriptions = [
                    each for each in self._subscriptions if each is not subscription
                ]
                wanted = {each.channel for each in self._subscriptions}
                if self._listener is not None and subscription.channel not in wanted:
                    self._listener.nudge()

        return unsubscribe

    @property
    def listening(self) -> bool:
        """Whether every subscribed channel is being listened to at this moment.

        False is no error: the connection is lost for now, or a pooler swallows
        notifications. Callers poll.
        """
        listener = self._listener
        if listener is None or self._pid != os.getpid():
            return False
        subscriptions = self._subscriptions
        return bool(subscriptions) and all(
            each.channel in listener.channels for each in subscriptions
        )

    def wait_listening(self, timeout: float) -> bool:
        """Wait until `listening`, for at most ``timeout`` seconds, and return it."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.listening or self._deaf, timeout
            ) and (self.listening)

    def close(self) -> None:
        """End all subscriptions and the thread, and wait for it.

        A later `subscribe` begins anew.
        """
        with self._lock:
            self._subscriptions = []
            listener, self._listener = self._listener, None
            self._deaf = False
        if listener is not None:
            listener.stop()

    # ── for the listener ──────────────────────────────────────────────────────────────

    @property
    def subscriptions(self) -> list[_Subscription]:
        """The subscriptions of this moment; the list is never changed, only replaced."""
        return self._subscriptions

    def announce(self) -> None:
        """Wake those in `wait_listening`: there is news."""
        with self._changed:
            self._changed.notify_all()

    def retire(self, listener: _Listener) -> bool:
        """Let go of a listener that has nothing to do; false if it has."""
        with self._lock:
            if self._listener is listener and self._subscriptions:
                return False
            if self._listener is listener:
                self._listener = None
            return True

    def give_up(self, listener: _Listener) -> None:
        """Listening is of no use here: start no further listener."""
        with self._lock:
            if self._listener is listener:
                self._listener = None
                self._deaf = True
        self.announce()


class _Subscription:
    def __init__(self, channel: str, callback: Callback) -> None:
        self.channel = channel
        self.callback = callback
        self.greeted = False

    def call(self, payload: str | None) -> None:
        try:
            self.callback(payload)
        except Exception:
            logger.exception("A callback for notifications on %r failed.", self.channel)


class _Listener:
    """The thread, its connection, and the end of a socket pair that wakes it."""

    def __init__(self, notifier: Notifier) -> None:
        self.channels: frozenset[str] = frozenset()
        self._notifier = notifier
        self._stopping = False
        self._nudged, self._nudge = socket.socketpair()
        self._nudged.setblocking(False)
        self._nudge.setblocking(False)
        self._thread = threading.Thread(
            target=self._run, name="pgtasks-notifier", daemon=True
        )
        self._thread.start()

    def nudge(self) -> None:
        """Have the thread look up from its wait."""
        # A full buffer will wake it as well, and a closed one belongs to a thread
        # that has looked for the last time.
        with contextlib.suppress(OSError):
            self._nudge.send(b"!")

    def stop(self) -> None:
        """End the thread, and wait for it unless called from a callback in it."""
        self._stopping = True
        self.nudge()
        if self._thread is not threading.current_thread():
            # It may be connecting to a host that does not answer.
            self._thread.join(timeout=5.0)

    def abandon(self) -> None:
        """Close the sockets; in a forked child, whose thread did not come along, too."""
        self._nudged.close()
        self._nudge.close()

    def _run(self) -> None:
        try:
            self._listen_again_and_again()
        finally:
            self._heard(frozenset())
            self.abandon()

    def _listen_again_and_again(self) -> None:
        pauses = full_jitter(0.1, 15.0)
        silent = False
        while not self._stopping:
            try:
                with self._notifier.database.connection(_SETTINGS) as session:
                    if not self._can_hear(session):
                        self._notifier.give_up(self)
                        return
                    if silent:
                        logger.info("Listening for notifications again.")
                    silent, pauses = False, full_jitter(0.1, 15.0)
                    self._serve(session)
                    return
            except StorageError as error:
                # Once for each outage: polling goes on, and its owner complains too.
                if not silent:
                    logger.warning("No notifications for now, only polling: %s", error)
                silent = True
            except Exception:
                logger.exception("Listening for notifications failed; trying again.")
            self._heard(frozenset())
            if self._notifier.retire(self):
                return
            self._wait(next(pauses))

    def _serve(self, session: Session) -> None:
        arrived: deque[tuple[str, str]] = deque()
        # Those that come along with the answer to a statement.
        session.add_notify_handler(
            lambda each: arrived.append((each.channel, each.payload))
        )
        # Each channel listened to, and since when nobody wants it.
        missed_at: dict[str, float | None] = {}
        for subscription in self._notifier.subscriptions:
            subscription.greeted = False
        while not self._stopping:
            subscriptions = self._notifier.subscriptions
            self._follow(session, {each.channel for each in subscriptions}, missed_at)
            for subscription in subscriptions:
                if not subscription.greeted:
                    subscription.greeted = True
                    subscription.call(None)
            self._heard(frozenset(missed_at))
            self._deliver(arrived)
            if not missed_at and self._notifier.retire(self):
                return
            idle = not missed_at.keys() <= {each.channel for each in subscriptions}
            self._wait(self._notifier.linger if idle else None, session)
            arrived.extend(_received(session))
            # Before all else: somebody sleeps until then.
            self._deliver(arrived)

    def _deliver(self, arrived: deque[tuple[str, str]]) -> None:
        while arrived:
            channel, payload = arrived.popleft()
            for subscription in self._notifier.subscriptions:
                if subscription.channel == channel:
                    subscription.call(payload)

    def _follow(
        self, session: Session, wanted: set[str], missed_at: dict[str, float | None]
    ) -> None:
        """LISTEN to what is wanted, and UNLISTEN what has not been for a while."""
        for channel in wanted - missed_at.keys():
            session.execute(_LISTEN.format(sql.Identifier(channel)))
        missed_at.update(dict.fromkeys(wanted))
        now = monotonic()
        for channel in missed_at.keys() - wanted:
            missed = missed_at[channel]
            if missed is None:
                missed_at[channel] = now
            elif now - missed >= self._notifier.linger:
                session.execute(_UNLISTEN.format(sql.Identifier(channel)))
                del missed_at[channel]

    def _can_hear(self, session: Session) -> bool:
        """Behind a pooler only a notification that arrives proves that any will."""
        database = self._notifier.database
        if not database.direct.pooled:
            return True
        channel = in_schema("pgtasks.echo", database.schema)
        word = secrets.token_hex(8)
        session.execute(_LISTEN.format(sql.Identifier(channel)))
        database.run(Query(_NOTIFY, {"channel": channel, "word": word}, len))
        deadline = monotonic() + 2.0
        while (remaining := deadline - monotonic()) > 0 and not self._stopping:
            self._wait(remaining, session)
            if any(payload == word for _, payload in _received(session)):
                return True
        session.execute(_UNLISTEN.format(sql.Identifier(channel)))
        logger.warning(
            "The pooler at %s delivers no notifications, as PgBouncer in transaction mode "
            "does not: jobs and results are polled for. Name the server behind it in the "
            "setting 'database_direct_url' to be woken instead.",
            database.direct.address,
        )
        return False

    def _heard(self, channels: frozenset[str]) -> None:
        if channels != self.channels:
            switched = bool(channels) != bool(self.channels)
            self.channels = channels
            self._notifier.announce()
            if switched:
                status = "listening" if channels else "polling"
                address = self._notifier.database.direct.address
                known = {"status": status, "database": address}
                telemetry.execute("pgtasks.notifier.switch", {"system_time": time()}, known)

    def _wait(self, timeout: float | None, session: Session | None = None) -> None:
        """Sleep until something arrives, somebody nudges, or the time is over."""
        poll = select.poll()
        poll.register(self._nudged, select.POLLIN)
        if session is not None:
            poll.register(session.pgconn.socket, select.POLLIN)
        poll.poll(None if timeout is None else timeout * 1000)
        with contextlib.suppress(BlockingIOError):
            self._nudged.recv(4096)


_LISTEN = sql.SQL("listen {}")
_UNLISTEN = sql.SQL("unlisten {}")
_NOTIFY = "select pg_notify(%(channel)s::text, %(word)s::text)"


def _received(session: Session) -> Iterator[tuple[str, str]]:
    session.pgconn.consume_input()
    while (each := session.pgconn.notifies()) is not None:
        yield each.relname.decode(errors="replace"), each.extra.decode(errors="replace")


_notifiers: weakref.WeakSet[Notifier] = weakref.WeakSet()


def _begin_anew() -> None:
    for notifier in list(_notifiers):
        notifier._begin()


os.register_at_fork(after_in_child=_begin_anew)
