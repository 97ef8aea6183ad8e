"""Remote control as rows: commands to workers, and what they reply."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pgtasks.storage.query import Query, load

__all__ = [
    "Command",
    "Reply",
    "Scheduled",
    "answer",
    "began",
    "collect",
    "discard",
    "elect",
    "hear",
    "look_up",
    "names",
    "scheduled",
    "send",
]

SQL = load("mailbox.sql")


class Command(NamedTuple):
    """A command as a worker reads it.

    Attributes:
        key: Random; the sender looks for replies under it.
        arguments: JSON text, an object.
        wants_reply: The sender waits for one.
        sender: ``pid@host`` of the process that sent it.
    """

    id: int
    key: str
    command: str
    arguments: str
    wants_reply: bool
    sender: str


class Reply(NamedTuple):
    """One worker's reply.

    Attributes:
        worker: Id of the incarnation that replied.
        name: Name of the worker.
        reply: JSON text.
    """

    id: int
    worker: str
    name: str
    reply: str


class Scheduled(NamedTuple):
    """A job that is not due yet."""

    task_id: str
    task: str
    priority: int
    args: str | None
    kwargs: str | None
    queue: str
    retries: int
    scheduled_at: float
    headers: str | None


def send(
    command: str,
    arguments: str,
    *,
    key: str,
    destination: Sequence[str] | None,
    wants_reply: bool,
    sender: str,
    lifetime: float,
) -> Query[set[str]]:
    """Tell workers something; the answer is the ids of those alive whom it concerns.

    Args:
        command: Name of the command.
        arguments: Its keyword arguments as JSON text, an object.
        key: A random UUID: sent again under it, the command is still one. Replies are to
            be collected under it.
        destination: Names of workers; None means all.
        wants_reply: Somebody waits for replies.
        sender: Who sends it.
        lifetime: Seconds after which a worker that has not read it need not.
    """
    params = {
        "command": command,
        "arguments": arguments,
        "destination": None if destination is None else list(destination),
        "key": key,
        "wants_reply": wants_reply,
        "sender": sender,
        "lifetime": lifetime,
    }
    return Query(SQL["send"], params, lambda rows: set(rows[0][1]))


def names() -> Query[list[str]]:
    """The names of the workers that are alive."""
    return Query(SQL["names"], {}, lambda rows: [row[0] for row in rows])


def began(worker: str) -> Query[str]:
    """When a worker registered, by the database's clock, as text."""
    return Query(
        SQL["began"], {"worker": worker}, lambda rows: rows[0][0] if rows else "-infinity"
    )


def hear(
    name: str, *, since: str, mark: int, answered: Collection[int]
) -> Query[list[Command]]:
    """Read up to 100 commands, oldest first.

    Args:
        name: The worker's name.
        since: Older commands are left out.
        mark: Commands up to this id are left out.
        answered: Ids above ``mark`` that have been answered.
    """
    params = {"name": name, "since": since, "mark": mark, "answered": list(answered)}
    return Query(SQL["hear"], params, lambda rows: [Command._make(row) for row in rows])


def answer(reply: str, *, key: str, worker: str, name: str, lifetime: float) -> Query[bool]:
    """Reply to a command with JSON text, and wake who waits for it."""
    params = {
        "reply": reply,
        "key": key,
        "worker": worker,
        "name": name,
        "lifetime": lifetime,
    }
    return Query(SQL["answer"], params, bool)


def elect(key: str, name: str, *, lifetime: float) -> Query[bool]:
    """Be the first to write one's name under a key; whether one was.

    Args:
        key: The same UUID for all candidates.
        name: Of the worker.
        lifetime: Seconds for which it is remembered.
    """
    params = {"key": key, "name": name, "lifetime": lifetime}
    return Query(SQL["elect"], params, bool)


def collect(key: str, *, known: Collection[int] = ()) -> Query[list[Reply]]:
    """The replies that have come, without those whose ids are ``known``."""
    params = {"key": key, "known": list(known)}
    return Query(SQL["collect"], params, lambda rows: [Reply._make(row) for row in rows])


def discard(key: str) -> Query[int]:
    """Delete the replies that have been read, and expired ones of others."""
    return Query(SQL["discard"], {"key": key}, len)


def look_up(task_ids: Sequence[str], queues: Sequence[str]) -> Query[list[Scheduled]]:
    """Those of these ids that are not due yet and wait in ``queues``."""
    params = {"task_ids": list(task_ids), "queues": list(queues)}
    return Query(
        SQL["look_up"], params, lambda rows: [Scheduled._make(row) for row in rows]
    )


def scheduled(queues: Sequence[str], *, limit: int) -> Query[list[Scheduled]]:
    """The next ``limit`` jobs of ``queues`` that are not due yet."""
    params = {"queues": list(queues), "limit": limit}
    return Query(
        SQL["scheduled"], params, lambda rows: [Scheduled._make(row) for row in rows]
    )
