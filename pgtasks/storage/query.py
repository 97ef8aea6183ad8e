"""Statements as values: what to run, with what, and how to read the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

__all__ = ["Query", "Row", "Statements", "in_schema", "load"]

T = TypeVar("T")
Row = tuple[Any, ...]

SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,50}")
_HEADER = re.compile(r"^-- (name|fragment): *(\w+) *$", re.MULTILINE)
_BORROWS = re.compile(r"-- fragments of: *(.+?) *$", re.MULTILINE)
_INCLUDE = re.compile(r"^ *-- include: *(\w+) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """One SQL statement, its parameters, and the reading of its rows.

    A query holds no connection. A thread, a greenlet, an event loop and a
    caller's own Django transaction all run the same query, which is why
    none of them has SQL of its own.
    """

    statement: str
    params: Mapping[str, object]
    read: Callable[[Sequence[Row]], T]


class Statements(dict[str, str]):
    """The named statements of one ``.sql`` file."""


def load(filename: str) -> Statements:
    """Read the statements under ``-- name:`` in ``pgtasks/storage/<filename>``.

    Lines that several statements have in common stand once, under ``-- fragment:``, and
    where a statement, or another fragment, says ``-- include:`` with that name. A file that
    begins with ``-- fragments of:`` and the names of others has theirs, too.
    """
    text, found = _parts(filename)
    borrowed = _BORROWS.match(text)
    homes = borrowed[1].split() if borrowed else []
    shared = [part for home in homes for part in _parts(home)[1]]
    fragments = {name: body for kind, name, body in shared + found if kind == "fragment"}

    def whole(body: str) -> str:
        return _INCLUDE.sub(lambda line: whole(fragments[line[1]]), body)

    return Statements((name, whole(body)) for kind, name, body in found if kind == "name")


def _parts(filename: str) -> tuple[str, list[tuple[str, str, str]]]:
    text = files(__package__).joinpath(filename).read_text(encoding="utf-8")
    parts = _HEADER.split(text)[1:]
    found = zip(parts[::3], parts[1::3], map(str.strip, parts[2::3]), strict=True)
    return text, list(found)


@lru_cache(maxsize=1024)
def in_schema(statement: str, schema: str) -> str:
    """The statement with the literal schema ``pgtasks.`` replaced by ``schema``.

    SQL is written with the literal schema so that psql, editors and linters can
    read it. Names of notification channels begin with it too and move along.
    """
    if schema == "pgtasks":
        return statement
    if not SCHEMA_NAME.fullmatch(schema):
        raise ValueError(
            f"{schema!r} is not a usable schema name: use lower-case letters, digits "
            f"and underscores, at most 51 of them (setting 'database_schema')."
        )
    return re.sub(r"\bpgtasks\.", f"{schema}.", statement)
