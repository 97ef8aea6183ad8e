"""Sends ticks: their jobs are inserted in the transaction that notes them as sent."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pgtasks.app import batch
from pgtasks.app.publish import sender
from pgtasks.beat.entry import BeatLazyFunc
from pgtasks.storage import borrowed, crons
from pgtasks.storage.errors import BadData, StorageError

if TYPE_CHECKING:
    from pgtasks.beat.lines import Line
    from pgtasks.storage.leaders import Seat

__all__ = ["Order", "Sent", "compose", "send"]

logger = logging.getLogger("celery.beat")


class Order(NamedTuple):
    """Ticks of one entry that are to be sent.

    Attributes:
        id: Of the entry's row.
        line: The entry.
        follows: Its last tick, as the database has written it.
        last: What will be its last tick.
        ticks: The moments, the oldest first.
    """

    id: int
    line: Line
    follows: str
    last: datetime
    ticks: list[datetime]


class Sent(NamedTuple):
    """What became of an order.

    Attributes:
        order: Which.
        last_tick: Its last tick now, as the database writes it; None if the ticks were not
            ours to send.
        busy: Nothing was sent, as the job before is not over.
        inserted: How many jobs, or work-flows, were inserted.
        error: What kept it from being sent.
    """

    order: Order
    last_tick: str | None
    busy: bool
    inserted: int
    error: Exception | None


class _Call(NamedTuple):
    """What one tick leads to."""

    tick: datetime
    task_id: str | None
    requests: list[Any]
    results: list[Any]


def compose(app: Any, line: Line, tick: datetime) -> _Call:
    """Make the jobs of a tick, as `apply_async` makes them, and insert none.

    Args:
        app: The application.
        line: The entry.
        tick: The moment.

    Raises:
        Exception: What the arguments, the task or a receiver of a signal raises.
    """
    args = [_value(each) for each in line.args]
    kwargs = {key: _value(each) for key, each in line.kwargs.items()}
    options = dict(line.options)
    options["headers"] = {
        **(options.get("headers") or {}),
        "celery_beat_task": True,
        "cron_entry": line.name,
        "cron_tick": tick.isoformat(),
    }
    if line.jitter:
        countdown = float(options.get("countdown") or 0.0)
        options["countdown"] = countdown + random.uniform(0.0, line.jitter)
    if line.overlap == "queue":
        options.setdefault("unique", "while_executing")
    together = batch.Batch(app)
    with batch.collecting(together):
        task = app.tasks.get(line.task)
        if task is None:
            result = app.send_task(line.task, args, kwargs, **options)
        else:
            result = task.apply_async(args, kwargs, **options)
    task_id = getattr(result, "id", None)
    return _Call(
        tick,
        task_id if isinstance(task_id, str) else None,
        together.requests,
        together.results,
    )


def _value(argument: Any) -> Any:
    return argument() if isinstance(argument, BeatLazyFunc) else argument


def send(app: Any, seat: Seat, orders: Sequence[Order]) -> list[Sent]:
    """Send ticks, all by one transaction; what cannot be sent keeps nothing else from it.

    Args:
        app: The application.
        seat: Who we are.
        orders: What to send; one for each entry.

    Raises:
        StorageError: The database cannot be had, and what became of them is not known.
    """
    calls: dict[int, list[_Call]] = {}
    errors: dict[int, Exception] = {}
    for order in orders:
        try:
            calls[order.id] = _composed(app, order)
        except Exception as error:
            calls[order.id], errors[order.id] = [], error
    try:
        return _send(app, seat, orders, calls, errors)
    except Exception as error:
        if not _is_of_an_entry(error):
            raise
    # One of them holds what PostgreSQL does not take. Which, each alone will tell.
    return [found for order in orders for found in _alone(app, seat, order, calls, errors)]


def _alone(
    app: Any,
    seat: Seat,
    order: Order,
    calls: dict[int, list[_Call]],
    errors: dict[int, Exception],
) -> list[Sent]:
    try:
        return _send(app, seat, [order], calls, errors)
    except Exception as error:
        if not _is_of_an_entry(error):
            raise
        return _send(app, seat, [order], {order.id: []}, {order.id: error})


def _is_of_an_entry(error: Exception) -> bool:
    """Whether it is the fault of what is sent, and not of the database: a tick can wait."""
    return isinstance(error, BadData) or not isinstance(error, StorageError)


def _composed(app: Any, order: Order) -> list[_Call]:
    ticks = order.ticks
    if order.line.overlap == "skip":
        # The others would find the first one under way.
        ticks = ticks[-1:]
    return [compose(app, order.line, tick) for tick in ticks]


def _send(
    app: Any,
    seat: Seat,
    orders: Sequence[Order],
    calls: dict[int, list[_Call]],
    errors: dict[int, Exception],
) -> list[Sent]:
    entries = []
    # In this order their rows are locked (R8).
    for order in sorted(orders, key=itemgetter(0)):
        made = {call.tick: call.task_id for call in calls[order.id]}
        error = errors.get(order.id)
        entries.append(
            {
                "id": order.id,
                "follows": order.follows,
                "last": order.last.isoformat(),
                "runs": len(made),
                "task_id": next(reversed(made.values()), None),
                "error": None if error is None else _said(error),
                "ticks": [
                    {"tick": tick.isoformat(), "task_id": made.get(tick)}
                    for tick in order.ticks
                ],
            }
        )
    database = app.database
    sent = []
    requests: list[Any] = []
    results: list[Any] = []
    with database.transaction() as session:
        query = crons.grant(seat, entries)
        granted = borrowed.run(query, on=session, schema=database.schema)
        for order in orders:
            last, busy = granted.last.get(order.id), granted.busy.get(order.id, True)
            wanted = [
                call
                for call in calls[order.id]
                if not busy and (call.task_id is None or call.task_id in granted.task_ids)
            ]
            for call in wanted:
                requests += call.requests
                results += call.results
            error = errors.get(order.id)
            sent.append(Sent(order, last, busy and last is not None, len(wanted), error))
        if requests:
            sender(app).send_chunk(requests, results, session)
    return sent


def _said(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text.replace("\0", "\\0")[:2000].encode("utf-8", "replace").decode()
