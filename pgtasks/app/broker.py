"""What stands where a program expects the broker: is it there, and how much waits in it.

Programs open a connection to the broker to see whether tasks can be sent, and declare a
queue passively to see how long it is. Both are questions that the database can answer.
Messages are not to be had from it: what sends and receives them is not here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pgtasks import states
from pgtasks.app.connection import EMBEDDED, database_url, keeps_jobs_in_memory

if TYPE_CHECKING:
    from pgtasks.app.owning import Owning
    from pgtasks.storage.query import Query

__all__ = ["Channel", "Connection", "Pool", "Producer", "QueueDeclared"]

T = TypeVar("T")

_NO_BROKER = (
    "there is no broker behind this connection. It can tell whether the database answers "
    "(ensure_connection) and how many jobs wait (default_channel.queue_declare); send with "
    "send_task() or apply_async(), and receive with a worker."
)


def _ask(app: Owning, query: Query[T]) -> T:
    """Run a query; its errors are those that programs expect of a broker."""
    from pgtasks.storage.errors import StorageError

    try:
        return app.database.run(query)
    except StorageError as error:
        from pgtasks.exceptions import OperationalError

        raise OperationalError(str(error)) from error


class _Absent:
    """Says of what it has not why that is so."""

    # Not for type checkers, to which every name would then exist.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: {_NO_BROKER}"
            )


class Connection(_Absent):
    """Stands for kombu's ``Connection``: the application's way to its database.

    It holds nothing open: the connections are those of ``app.database``.

    Args:
        app: The application.
    """

    def __init__(self, app: Owning) -> None:
        self._app = app
        self._closed = False
        memory = keeps_jobs_in_memory(app)
        name = "memory" if memory else "postgresql"
        #: What kombu would tell of the way that messages take.
        self.transport = SimpleNamespace(driver_type=name, driver_name=name)
        self.transport_cls = name

    @property
    def recoverable_connection_errors(self) -> tuple[type[Exception], ...]:
        """What is raised when the database is away."""
        from pgtasks.exceptions import OperationalError

        return (OperationalError,)

    connection_errors = recoverable_connection_errors

    @property
    def recoverable_channel_errors(self) -> tuple[type[Exception], ...]:
        """What is raised when a channel breaks: nothing, as there are none."""
        return ()

    channel_errors = recoverable_channel_errors

    def as_uri(self, include_password: bool = False, mask: str = "**") -> str:
        """Answer the URL of the database, with its password masked unless told otherwise."""
        from pgtasks.app.masking import sanitize_url

        if keeps_jobs_in_memory(self._app):
            return "memory://localhost//"
        url = database_url(self._app)
        if url == EMBEDDED:
            url = self._app.database.url
        return url if include_password else str(sanitize_url(url, mask))

    def ensure_connection(
        self,
        errback: Callable[[Exception, float], Any] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2,
        interval_step: float = 2,
        interval_max: float = 30,
        callback: Callable[[], Any] | None = None,
        reraise_as_library_errors: bool = True,
        timeout: float | None = None,
    ) -> Connection:
        """Wait until the database answers.

        Args:
            errback: Called with each error and the seconds until the next try.
            max_retries: Tries after the first; None goes on until ``timeout``.
            interval_start: Seconds between the first two tries.
            interval_step: What is added with each.
            interval_max: Longest pause.
            callback: Called between tries.
            reraise_as_library_errors: Accepted from kombu.
            timeout: Seconds after which it is given up.

        Raises:
            OperationalError: It does not answer.
        """
        end = None if timeout is None else time.monotonic() + timeout
        tries, pause = 0, interval_start
        while True:
            try:
                return self.connect()
            except self.recoverable_connection_errors as error:
                tries += 1
                late = end is not None and time.monotonic() + pause > end
                if late or (max_retries is not None and tries > max_retries):
                    raise
                if errback is not None:
                    errback(error, pause)
            if callback is not None:
                callback()
            time.sleep(pause)
            pause = min(pause + interval_step, interval_max)

    def connect(self) -> Connection:
        """Ask the database whether it answers.

        Raises:
            OperationalError: It does not.
        """
        if not keeps_jobs_in_memory(self._app):
            from pgtasks.storage import health

            _ask(self._app, health.ping())
        self._closed = False
        return self

    @property
    def connected(self) -> bool:
        """Whether the database answers now."""
        if self._closed:
            return False
        try:
            self.connect()
        except self.recoverable_connection_errors:
            return False
        return True

    @property
    def default_channel(self) -> Channel:
        """Questions about queues."""
        return Channel(self._app)

    def channel(self) -> Channel:
        """Answer `default_channel`; there is but one."""
        return self.default_channel

    def clone(self, **kwargs: Any) -> Connection:
        """Answer another one of the same application."""
        return type(self)(self._app)

    def release(self) -> None:
        """Be done with it. The connections of the application stay open."""
        self._closed = True

    close = release

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()}>"


class QueueDeclared(NamedTuple):
    """What a broker answers to the declaration of a queue.

    Attributes:
        queue: Its name.
        message_count: Jobs that could run now; not those that are due later.
        consumer_count: Workers that serve it.
    """

    queue: str
    message_count: int
    consumer_count: int


class Channel(_Absent):
    """Answers questions about queues, in kombu's words.

    Args:
        app: The application.
    """

    def __init__(self, app: Owning) -> None:
        self._app = app

    def queue_declare(self, queue: str = "", *args: Any, **kwargs: Any) -> QueueDeclared:
        """Count what waits in a queue. It need not be made: a queue is a word in a row.

        Args:
            queue: Its name.
            *args: Accepted from kombu.
            **kwargs: Accepted from kombu: ``passive``, ``durable`` and so on.
        """
        if keeps_jobs_in_memory(self._app):
            from pgtasks.app.memory import queue_of

            waiting = queue_of(self._app).waiting(queue)
            now = sum(1 for job in waiting if not (job.delay or job.eta or job.awaits))
            return QueueDeclared(queue, now, 0)
        from pgtasks.storage import jobs, workers

        ready = {
            count.queue: count.jobs
            for count in _ask(self._app, jobs.count())
            if count.state == states.AVAILABLE
        }
        serving = [
            worker
            for worker in _ask(self._app, workers.live())
            if queue in worker.queues and not worker.lapsed
        ]
        return QueueDeclared(queue, ready.get(queue, 0), len(serving))

    def queue_purge(self, queue: str = "", *args: Any, **kwargs: Any) -> int:
        """Delete what waits in a queue; the answer is how many jobs there were."""
        return int(self._app.control.purge(queues=[queue]))

    def close(self) -> None:
        """Be done with it."""

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Producer(_Absent):
    """What programs hand to ``apply_async(producer=…)``, where it is accepted.

    Args:
        connection: The connection that it would send on.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.channel = connection.default_channel

    def release(self) -> None:
        """Be done with it."""

    close = release

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class Pool:
    """Hands out as many as are asked for: none of them holds anything open.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """Answer one, to be used in a ``with`` statement.

        Args:
            block: Accepted from kombu.
            timeout: Accepted from kombu.
        """
        return self._make()

    def force_close_all(self, *args: Any, **kwargs: Any) -> None:
        """Be done with all of them; there is nothing to close."""
