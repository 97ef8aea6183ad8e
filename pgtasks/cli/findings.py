"""One answer of ``pgtasks doctor``: what was found, and what to do about it."""

from __future__ import annotations

from typing import Any, NamedTuple

from pgtasks.utils.text import short_span

__all__ = ["PATIENCE", "Finding", "ago", "split"]

PATIENCE = 15.0
"""Seconds that one question may take on a large table."""


class Finding(NamedTuple):
    """The answer to one question.

    Attributes:
        about: What was looked at.
        verdict: ``ok``, ``warn`` or ``fail``.
        message: What was found.
        remedy: What to do about it.
        data: The same for programs.
    """

    about: str
    verdict: str
    message: str
    remedy: str = ""
    data: dict[str, Any] | None = None


def split(text: str) -> tuple[str, str]:
    """What happened, and what to do: the last sentence of our messages."""
    happened, found, remedy = text.rpartition(". ")
    return (f"{happened}.", remedy) if found else (text, "")


def ago(seconds: float) -> str:
    """A duration as people say it."""
    return f"{short_span(seconds, 1)} ago"
