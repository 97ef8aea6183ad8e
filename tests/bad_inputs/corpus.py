"""The cases, as data: what goes in, and what must come of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

OUTCOMES = {
    "reject_at_call": "the call raises a named error before anything is stored",
    "roundtrip": "it runs, and what it sees is what was put in",
    "accept_lossy_documented": "it runs, and sees the documented change",
    "job_discarded": "it ends discarded with a clear error, and nothing of it has run",
    "job_failed_retry": "this run fails, with a bounded error, and retries as configured",
    "startup_error": "one clear line, an exit status, no traceback, no busy loop",
    "ignored_counted": "ignored, counted, and logged at most once a minute",
    "safe_rendered": "shown or logged escaped and bounded",
}


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        id: Its name, which begins with the area.
        area: ``api-args``, ``table-row`` or ``task-behaviour``.
        input: What goes in, for people; of ``api-args`` the call itself.
        expect: What must come of it, one of `OUTCOMES`.
        why: What has gone wrong elsewhere, or why it is expected.
        more: What the checks of its area want to know.
    """

    id: str
    area: str
    input: str
    expect: str
    why: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id


def _case(given: dict[str, Any]) -> Case:
    known = {name: given.pop(name) for name in ("id", "area", "input", "expect")}
    return Case(**known, why=given.pop("why", ""), more=given)


CASES = [
    _case(each) for each in json.loads((Path(__file__).parent / "cases.json").read_text())
]


def cases(area: str) -> list[Any]:
    """The cases of one area, as parameters of a test."""
    return [
        pytest.param(
            case,
            id=case.id,
            marks=[pytest.mark.slow] if case.more.get("slow") else [],
        )
        for case in CASES
        if case.area == area
    ]
