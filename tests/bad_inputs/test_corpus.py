"""The cases themselves: that none is missing, and each says what is expected of it."""

from __future__ import annotations

from collections import Counter

from corpus import CASES, OUTCOMES


def test_every_case_is_there_once_and_expects_something_that_is_checked():
    assert Counter(case.area for case in CASES) == {
        "api-args": 54,
        "table-row": 46,
        "task-behaviour": 32,
    }
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(case.id.startswith(f"{case.area}-") for case in CASES)
    assert {case.expect for case in CASES} == set(OUTCOMES)
