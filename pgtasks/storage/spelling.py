"""One statement in the spellings that the drivers read.

Statements are written for psycopg, ``%(name)s::type``. The others want ``$1`` or ``:name``,
and each has a trap of its own in what stands behind the parameter.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pgtasks.storage.query import in_schema

__all__ = ["for_format", "for_names", "for_numbers"]

_PARAMETER = re.compile(r"%\((?P<name>\w+)\)s(?:::(?P<type>[\w.]+(?:\[\])?))?|%%")
_COLON = re.compile(r"(?<![:\w\\]):(?=\w)")


@lru_cache(maxsize=256)
def for_format(statement: str, schema: str) -> str:
    """The statement for psycopg 2 and Django: ``CAST(%(name)s AS type)``.

    They put the values themselves into the text, where ``-32768::smallint`` is minus of a
    number that is too large.
    """

    def spell(found: re.Match[str]) -> str:
        name, type = found["name"], found["type"]
        return f"CAST(%({name})s AS {type})" if type else found[0]

    return _PARAMETER.sub(spell, in_schema(statement, schema))


@lru_cache(maxsize=256)
def for_numbers(statement: str, schema: str) -> tuple[str, tuple[str, ...]]:
    """The statement for asyncpg, ``$1::type``, and the names of the values in order.

    What is a text with us goes as one, whatever it stands for: asyncpg would have a date
    here, and the program may have given the connection a codec for JSON, which would encode
    ours once more.
    """
    names: list[str] = []

    def spell(found: re.Match[str]) -> str:
        name, type = found["name"], found["type"]
        if not name:
            return "%"
        if name not in names:
            names.append(name)
        number = f"${names.index(name) + 1}"
        return f"{number}::{_by_way_of_text(type)}" if type else number

    return _PARAMETER.sub(spell, in_schema(statement, schema)), tuple(names)


@lru_cache(maxsize=256)
def for_names(statement: str, schema: str) -> str:
    r"""The statement for SQLAlchemy's ``text()``: ``CAST(:name AS type)``.

    It takes ``:name::type`` for no parameter at all, and what looks like one in a comment
    or a literal for one, unless that is written ``\:``.
    """

    def spell(found: re.Match[str]) -> str:
        name, type = found["name"], found["type"]
        if not name:
            return "%"
        if not type:
            return f":{name}"
        value = f":{name}"
        for step in _by_way_of_text(type).split("::"):
            value = f"CAST({value} AS {step})"
        return value

    literal = _COLON.sub(r"\\:", in_schema(statement, schema))
    return _PARAMETER.sub(spell, literal)


_TEXTS = ("interval", "json", "jsonb", "timestamptz", "uuid")


def _by_way_of_text(type: str) -> str:
    name, brackets, _ = type.partition("[]")
    return f"text{brackets}::{type}" if name in _TEXTS else type
