"""Text for people: shortening, indenting, and filling in ``%h`` and its kin."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

__all__ = [
    "WhateverIO",
    "abbr",
    "abbrtask",
    "dedent",
    "dedent_initial",
    "ensure_newlines",
    "ensure_sep",
    "fill_paragraphs",
    "indent",
    "join",
    "match_case",
    "pluralize",
    "pretty",
    "remove_repeating",
    "remove_repeating_from_task",
    "safe_repr",
    "safe_str",
    "short_span",
    "simple_format",
    "str_to_list",
    "truncate",
]

RE_FORMAT = re.compile(r"%([%\w])")


# ── shortening ──────────────────────────────────────────────────────────────


def truncate(s: str, maxlen: int = 128, suffix: str = "...") -> str:
    """Cut ``s`` at the last space before ``maxlen`` and say so with ``suffix``."""
    if not maxlen or len(s) < maxlen:
        return s
    return s[:maxlen].rsplit(" ", 1)[0] + suffix


def abbr(S: str | None, max: int, ellipsis: str | bool | None = "...") -> str:
    """Cut ``S`` to ``max`` characters, the ellipsis included; None is ``???``."""
    if S is None:
        return "???"
    if len(S) <= max:
        return S
    if not isinstance(ellipsis, str) or not ellipsis:
        return S[:max]
    return S[: max - len(ellipsis)] + ellipsis


def abbrtask(S: str | None, max: int) -> str:
    """Shorten a task name from the left: ``long.path[.]name``."""
    if S is None:
        return "???"
    if len(S) <= max:
        return S
    module, _, name = S.rpartition(".")
    return f"{abbr(module, max - len(name) - 3, False)}[.]{name}"


def remove_repeating_from_task(task_name: str, s: str) -> str:
    """Name the module of ``task_name`` only once in ``s``.

    ``tasks.add(2, 2) | tasks.mul(8)`` reads ``tasks.add(2, 2) | mul(8)``.
    """
    module = str(task_name).rpartition(".")[0]
    return remove_repeating(f"{module}.", s) if module else s


def remove_repeating(substr: str, s: str) -> str:
    """Keep the first ``substr`` in ``s`` and drop the others that begin a name."""
    head, found, tail = s.partition(substr)
    # `app.` must not vanish from `webapp.`, `my-app.` or `x.app.`.
    begins_name = re.compile(rf"(?<![\w.-]){re.escape(substr)}")
    return head + found + begins_name.sub("", tail)


# ── paragraphs and lists ────────────────────────────────────────────────────


def str_to_list(s: Any) -> Any:
    """Split a text at its commas; anything else is handed back."""
    return s.split(",") if isinstance(s, str) else s


def dedent_initial(s: str, n: int = 4) -> str:
    """Drop the first ``n`` characters if all of them are spaces."""
    return s.removeprefix(" " * n)


def dedent(s: str, sep: str = "\n") -> str:
    """Drop four leading spaces of every line that has them."""
    return sep.join(dedent_initial(line) for line in s.splitlines())


def fill_paragraphs(s: str, width: int, sep: str = "\n") -> str:
    """Wrap each paragraph at ``width`` columns."""
    from textwrap import fill

    return sep.join(fill(paragraph, width) for paragraph in s.split(sep))


def join(l: list[str], sep: str = "\n") -> str:  # noqa: E741
    """Join the texts that are not empty."""
    return sep.join(filter(None, l))


def ensure_sep(sep: str, s: str, n: int = 2) -> str:
    """Append separators until ``s`` holds ``n`` of them."""
    return s + sep * (n - s.count(sep))


ensure_newlines = partial(ensure_sep, "\n")


def indent(t: str, indent: int = 0, sep: str = "\n") -> str:
    """Put ``indent`` spaces before every line."""
    margin = " " * indent
    return sep.join(margin + line for line in t.split(sep))


def pluralize(n: float, text: str, suffix: str = "s") -> str:
    """``text`` with the plural's suffix unless ``n`` is one."""
    return text if n == 1 else text + suffix


def short_span(seconds: float, digits: int = 0) -> str:
    """A time in the largest unit of which there are two: 45 s, 12 min, 7 h, 3 d.

    Args:
        seconds: How long it is; less than nothing is nothing.
        digits: Behind the point, where it is shown in seconds.
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if round(seconds / size, 1) >= 2:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.{digits}f} s"


def pretty(
    value: Any, width: int = 80, nl_width: int = 80, sep: str = "\n", **kw: Any
) -> str:
    """Lay out a value for the terminal; dicts and tuples begin on a line of their own."""
    from pprint import pformat  # which brings inspect and dataclasses

    if isinstance(value, dict):
        return f"{sep} {pformat(value, 4, nl_width)[1:]}"
    if isinstance(value, tuple):
        return f"{sep}    {pformat(value, width=nl_width, **kw)}"
    return pformat(value, width=width, **kw)


def match_case(s: str, other: str) -> str:
    """``s`` in capitals if ``other`` is, else in small letters."""
    return s.upper() if other.isupper() else s.lower()


# ── templates ───────────────────────────────────────────────────────────────


def simple_format(
    s: str,
    keys: Mapping[str, str | Callable[[], str]],
    pattern: re.Pattern[str] = RE_FORMAT,
    expand: str = r"\1",
) -> str:
    """Fill in ``%x`` with ``keys["x"]``, called if it can be; ``%%`` is a percent sign.

    Raises:
        ValueError: The text names a key that does not exist.
    """
    if not s:
        return s
    values = {"%": "%", **keys}

    def value_of(match: re.Match[str]) -> str:
        key = match.expand(expand)
        if key not in values:
            raise ValueError(
                f"Unknown format %{key} in string {s!r}. Known are "
                f"{', '.join(f'%{known}' for known in sorted(values))}. Write %% for a "
                f"percent sign, and %%%% if the text is expanded twice."
            )
        value = values[key]
        return value() if callable(value) else value

    return pattern.sub(value_of, s)


# ── anything as text ────────────────────────────────────────────────────────


def safe_str(s: Any, errors: str = "replace") -> str:
    """Any object as text that can be printed: bytes decoded, no exception."""
    if isinstance(s, bytes):
        return s.decode("utf-8", errors)
    if isinstance(s, str):
        return s
    return safe_repr(s, errors)


def safe_repr(o: Any, errors: str = "replace") -> str:
    """``repr(o)``, or a note of what went wrong with it."""
    try:
        return repr(o)
    except Exception as error:
        return f"<Unrepresentable {type(o)!r}: {error!r}>"


class WhateverIO(io.StringIO):
    """A text buffer that takes bytes as well."""

    def __init__(self, v: bytes | str | None = None, *a: Any, **kw: Any) -> None:
        super().__init__(_text(v) if v is not None else None, *a, **kw)

    def write(self, data: bytes | str) -> int:
        """Append text, or bytes as UTF-8."""
        return super().write(_text(data))


def _text(data: bytes | str) -> str:
    return data.decode() if isinstance(data, bytes) else data
