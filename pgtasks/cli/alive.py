"""Whether workers live: for health checks, by when they last did something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pgtasks.cli.invocation import EX_UNAVAILABLE, Failure, Invocation
from pgtasks.cli.output import clean

__all__ = ["MAX_AGE", "check"]

MAX_AGE = 30.0
"""Seconds after which a sign of life is too old; a lease is of 20, renewed every 5."""


class Sign(NamedTuple):
    """What a worker has shown of itself.

    Attributes:
        name: Its name, or its id where nobody has told us the name.
        what: What it did.
        age: How many seconds ago; None if it was declared dead.
    """

    name: str
    what: str
    age: float | None


def check(
    invocation: Invocation,
    *,
    destination: Sequence[str] | None,
    max_age: float,
    local: bool,
    as_json: bool,
) -> None:
    """Print the last sign of life of each worker.

    Args:
        invocation: What was said about the application.
        destination: Names of workers; those of this machine by default.
        max_age: Seconds after which it counts no more.
        local: Ask this machine, and not the database.
        as_json: Answer in JSON.

    Raises:
        Failure: There are none, or one of them does not live.
    """
    signs = list(_local() if local else _registered(invocation, destination))
    alive = {sign.name: sign.age is not None and sign.age <= max_age for sign in signs}
    for missing in set(destination or ()) - set(alive):
        alive[missing] = False
        signs.append(Sign(missing, "no worker of that name has signed on", None))
    out = invocation.out
    if as_json:
        out.json(
            {sign.name: {"alive": alive[sign.name], "age": sign.age} for sign in signs}
        )
    elif not out.quiet:
        for sign in signs:
            age = "" if sign.age is None else f" {sign.age:.1f} s ago"
            out.say(f"{clean(sign.name)}: {sign.what}{age}", error=not alive[sign.name])
    if not signs:
        raise Failure(
            "No worker of this user runs on this machine."
            if local
            else "No worker of this machine has signed on. Name those elsewhere with -d.",
            EX_UNAVAILABLE,
        )
    if not all(alive.values()):
        names = ", ".join(clean(name) for name, lives in alive.items() if not lives)
        raise Failure(f"Without a sign of life for {max_age:g} s: {names}", EX_UNAVAILABLE)


def _local() -> Iterator[Sign]:
    from pgtasks.worker.begun import signs_of_life

    for worker, age in signs_of_life():
        yield Sign(worker, "it last looked for jobs", age)


def _registered(
    invocation: Invocation, destination: Sequence[str] | None
) -> Iterable[Sign]:
    from pgtasks.storage import health
    from pgtasks.worker.identity import machine

    here = machine()
    found: dict[str, Sign] = {}
    for worker in invocation.reached.database.run(health.workers()):
        if worker.name in destination if destination else worker.machine == here:
            sign = Sign(worker.name, "its last heartbeat was", worker.silence)
            if worker.dead:
                sign = Sign(worker.name, "it was declared dead", None)
            # One that was started anew has the name of the one before it.
            other = found.get(worker.name)
            if other is None or _age(sign) < _age(other):
                found[worker.name] = sign
    return found.values()


def _age(sign: Sign) -> float:
    return float("inf") if sign.age is None else sign.age
