"""Arguments given to ``delay()`` and ``apply_async()``, and what the task sees of them."""

from __future__ import annotations

import logging
import math
import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from corpus import Case, cases
from kombu import exceptions as kombu_errors
from workplace import Workplace

from pgtasks import exceptions

pytestmark = pytest.mark.journey

NT = namedtuple("NT", "x y")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Caller:
    """Stands for the task in the text of a case, and remembers what was given to it."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        return self.task.delay(*args, **kwargs)

    def apply_async(self, **options: Any) -> Any:
        return self.task.apply_async(**options)


@dataclass
class Desk:
    """One case, and everything that its text names."""

    case: Case
    workplace: Workplace
    behaviour: ModuleType
    caplog: pytest.LogCaptureFixture

    def __post_init__(self) -> None:
        self.caller = Caller(self.behaviour.witness)

    def call(self) -> Any:
        """Do what the case says."""
        names = {
            "add": self.behaviour.add,
            "apply_async": self.caller.apply_async,
            "bound": self.behaviour.bound,
            "circular": circular,
            "datetime": datetime,
            "Decimal": Decimal,
            "delay": self.caller.delay,
            "nested": nested,
            "NT": NT,
            "timedelta": timedelta,
            "timezone": timezone,
            "uuid4": uuid4,
        }
        return eval(self.case.input, names)

    def rows(self) -> list[tuple[Any, ...]]:
        """All jobs that are not our neighbours."""
        return self.workplace.query(
            "select task_id from pgtasks.jobs where task <> 'behaviour.good' "
            "union all select task_id from pgtasks.finished_jobs where task <> 'behaviour.good'"
        )

    def seen(self, task_id: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the task got, in the worker's process."""
        assert self.workplace.wait(task_id) == {task_id: "completed"}, self.workplace.job(
            task_id
        )
        result = self.behaviour.app.AsyncResult(task_id).get(timeout=10)
        assert self.workplace.events(task_id) == ["ran"]
        return self.behaviour.what_was_seen(result)


@pytest.mark.parametrize("case", cases("api-args"))
def test_arguments(
    case: Case,
    workplace: Workplace,
    behaviour: ModuleType,
    caplog: pytest.LogCaptureFixture,
):
    desk = Desk(case, workplace, behaviour, caplog)
    with workplace.undisturbed():
        CHECKS.get(case.id, CHECKS[case.expect])(desk)


def it_is_refused_and_nothing_is_stored(desk: Desk):
    kinds = tuple(error_named(name) for name in desk.case.more["raises"].split("|"))
    before = desk.rows()

    with pytest.raises(kinds) as caught:
        desk.call()

    assert type(caught.value) in kinds, f"a subclass: {type(caught.value)}"
    assert re.search(desk.case.more["says"], str(caught.value)), str(caught.value)
    assert len(str(caught.value)) < 1000
    assert desk.rows() == before
    # The connection and the process are as good as before.
    assert desk.behaviour.add.delay(2, 3).get(timeout=10) == 5


def error_named(name: str) -> type[BaseException]:
    homes: tuple[Any, ...] = (exceptions, kombu_errors, __builtins__)
    for home in homes:
        found = home.get(name) if isinstance(home, dict) else getattr(home, name, None)
        if found is not None:
            return found
    raise LookupError(name)


def it_comes_back_equal(desk: Desk):
    result = desk.call()

    args, kwargs = desk.seen(result.id)

    assert same((args, kwargs), (desk.caller.args, desk.caller.kwargs)), (args, kwargs)


def it_comes_back_changed_as_documented(desk: Desk):
    result = desk.call()

    (value,), kwargs = desk.seen(result.id)

    assert same(value, eval(desk.case.more["becomes"])), value
    assert not kwargs


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit: type, sign of zero, not-a-number, order of keys, offset."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, (list, tuple)):
        # Not by recursion: a list may be nested deeper than that goes.
        pairs = [(a, b)]
        while pairs:
            x, y = pairs.pop()
            if isinstance(x, (list, tuple)):
                if type(x) is not type(y) or len(x) != len(y):
                    return False
                pairs.extend(zip(x, y, strict=True))
            elif not same(x, y):
                return False
        return True
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, datetime):
        return a == b and a.utcoffset() == b.utcoffset()
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    return a == b


def the_last_of_two_equal_keys_wins(desk: Desk):
    # No dict can be like that: it takes a foreign writer.
    [task_id] = desk.workplace.put({"kwargs": """'{"a": 1, "a": 2}'"""})

    assert desk.seen(task_id) == ((), {"a": 2})


def the_generator_is_left_alone(desk: Desk):
    given = []

    def remember(*args: Any) -> Any:
        given.extend(args)
        return desk.behaviour.witness.delay(*args)

    desk.caller.delay = remember  # type: ignore[method-assign]
    it_is_refused_and_nothing_is_stored(desk)
    assert list(given[0]) == [1]


def a_large_call_is_made_with_a_warning(desk: Desk):
    with desk.caplog.at_level(logging.WARNING, "celery.app.publish"):
        it_comes_back_equal(desk)
    [record] = [each for each in desk.caplog.records if each.name == "celery.app.publish"]
    assert "task_body_warn_size" in record.getMessage()


def nothing_is_unpickled(desk: Desk):
    it_is_refused_and_nothing_is_stored(desk)
    with pytest.raises(kombu_errors.ContentDisallowed, match="accept_content"):
        desk.behaviour.app.send_task("not.registered.here", serializer="pickle")


CHECKS: dict[str, Callable[[Desk], None]] = {
    "reject_at_call": it_is_refused_and_nothing_is_stored,
    "roundtrip": it_comes_back_equal,
    "accept_lossy_documented": it_comes_back_changed_as_documented,
    "api-args-dup-keys-raw": the_last_of_two_equal_keys_wins,
    "api-args-generator": the_generator_is_left_alone,
    "api-args-huge-1mb": a_large_call_is_made_with_a_warning,
    "api-args-pickle": nothing_is_unpickled,
}


def test_not_a_number_is_not_taken_for_another():
    """The comparison itself: without it the rest would say little."""
    assert same(math.nan, math.nan)
    assert not same(0.0, -0.0)
    assert not same([1], (1,))
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same(Decimal("1.1"), Decimal("1.10"))
    assert not same(True, 1)
