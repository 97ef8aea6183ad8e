"""Sending by name, for programs that lack the task itself, and what they may send on."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from pgtasks.app.owning import Owning

if TYPE_CHECKING:
    from pgtasks.app.broker import Connection, Pool
    from pgtasks.canvas import Signature
    from pgtasks.result import AsyncResult

__all__ = ["Sending"]

#: Stands for an option that was not given, where None means something.
_UNSAID: Any = type("_Unsaid", (), {"__repr__": lambda self: "<not given>"})()

#: What `Sending.send_task` takes by position behind the rest, as in Celery.
_MORE = (
    "group_id", "group_index", "retries", "chord", "reply_to", "time_limit",
    "soft_time_limit", "root_id", "parent_id", "route_name", "shadow", "chain",
    "task_type", "replaced_task_nesting",
)  # fmt: skip


@cache
def _publish() -> Any:
    # Not before something is sent: it is most of what there is to import here.
    return importlib.import_module("pgtasks.app.publish")


class Sending(Owning):
    """The floor of `Celery` that sends.

    How is `pgtasks.app.publish`'s business, which is loaded with the first call.
    """

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = _UNSAID,
        eta: Any = _UNSAID,
        task_id: Any = _UNSAID,
        producer: Any = _UNSAID,
        connection: Any = _UNSAID,
        router: Any = _UNSAID,
        result_cls: Any = _UNSAID,
        expires: Any = _UNSAID,
        publisher: Any = _UNSAID,
        link: Any = _UNSAID,
        link_error: Any = _UNSAID,
        add_to_parent: bool = True,
        *more: Any,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by its name, which need not be registered here.

        Args:
            name: The name.
            args: Positional arguments, a list or tuple.
            kwargs: Keyword arguments.
            countdown: Seconds until it may run.
            eta: The date from which on it may run.
            task_id: Its id; a new one by default.
            producer: Accepted as in Celery.
            connection: A connection whose transaction the job is to be part of; None
                leaves the one that it would join by itself.
            router: Routes it, in place of ``app.amqp.router``.
            result_cls: Class of the answer.
            expires: Seconds, or a date, after which it must not start.
            publisher: Accepted as in Celery.
            link: Signatures to call with its result.
            link_error: Signatures to call if it fails.
            add_to_parent: Remember it as a child of the task that runs here.
            *more: What follows by position in Celery: ``group_id`` and so on.
            **options: All others of ``Task.apply_async``.

        Returns:
            Its result, to be waited for.
        """
        if more:
            options.update(zip(_MORE, more, strict=False))
        given = {key: value for key, value in locals().items() if value is not _UNSAID}
        del given["self"], given["more"], given["options"]
        if _stands_for_broker(connection):
            del given["connection"]
        result: AsyncResult[Any] = _publish().send_task(self, **given, **options)
        return result

    async def asend_task(
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """`send_task` for coroutines."""
        result: AsyncResult[Any] = await _publish().asend_task(
            self, name, args, kwargs, **options
        )
        return result

    def send_tasks(
        self, calls: Iterable[Any], *, atomic: bool = False, connection: Any = _UNSAID
    ) -> list[AsyncResult[Any]]:
        """Send tasks of any kinds, thousands in one statement.

        Args:
            calls: Signatures, or tuples of name, args, kwargs and options, of which the
                later ones may be left out.
            atomic: All of them or none, in one transaction.
            connection: A connection whose transaction they are to be part of; None is
                our own.

        Returns:
            Their results, in order.
        """
        lent = {} if connection is _UNSAID else {"connection": connection}
        bulk = importlib.import_module("pgtasks.app.bulk")
        results: list[AsyncResult[Any]] = bulk.send_tasks(
            self, calls, atomic=atomic, **lent
        )
        return results

    def signature(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """Make a signature that belongs to this application."""
        kwargs["app"] = self
        return self._canvas.signature(*args, **kwargs)  # type: ignore[no-any-return]

    # ── what stands for the broker ──────────────────────────────────────────────────────

    _pool: Any = None

    def connection(
        self,
        hostname: Any = None,
        userid: Any = None,
        password: Any = None,
        virtual_host: Any = None,
        port: Any = None,
        ssl: Any = None,
        connect_timeout: Any = None,
        transport: Any = None,
        transport_options: Any = None,
        heartbeat: Any = None,
        login_method: Any = None,
        failover_strategy: Any = None,
        **kwargs: Any,
    ) -> Connection:
        """Answer something to ask whether jobs can be sent, and how many wait.

        It leads to the application's database, whatever the arguments say, which are
        Celery's: there is no other place to send to.
        """
        from pgtasks.app.broker import Connection

        return Connection(self)

    broker_connection = connection

    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> Connection:
        """See `connection`."""
        return self.connection()

    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> Connection:
        """See `connection`."""
        return self.connection()

    def connection_or_acquire(
        self, connection: Any = None, pool: bool = True, *_: Any, **__: Any
    ) -> Any:
        """Answer a context: ``connection`` if it is one, else `connection`'s answer."""
        from pgtasks.utils.objects import FallbackContext

        return FallbackContext(connection, self.connection)

    default_connection = connection_or_acquire

    @property
    def pool(self) -> Pool:
        """Answers such connections, as kombu's pool does."""
        if self._pool is None:
            from pgtasks.app.broker import Pool

            self._pool = Pool(self.connection)
        return self._pool  # type: ignore[no-any-return]

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """Answer a context with what may be given as ``producer=``, where it is accepted."""
        from pgtasks.app.broker import Producer
        from pgtasks.utils.objects import FallbackContext

        return FallbackContext(producer, lambda: Producer(self.connection()))

    default_producer = producer_or_acquire

    @property
    def producer_pool(self) -> Pool:
        """Answers such producers."""
        from pgtasks.app.broker import Pool, Producer

        return Pool(lambda: Producer(self.connection()))


def _stands_for_broker(connection: Any) -> bool:
    return type(connection).__module__ == "pgtasks.app.broker"
