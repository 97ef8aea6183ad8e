"""How many places a pool has, where that follows from how much there is to do."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.worker import autoscale
from pgtasks.worker.autoscale import Autoscaler, bounds


class Pool:
    def __init__(self, places: int) -> None:
        self.num_processes = places
        self.error: Exception | None = None

    def grow(self, n: int = 1) -> None:
        self._change(n)

    def shrink(self, n: int = 1) -> None:
        self._change(-n)

    def _change(self, n: int) -> None:
        if self.error is not None:
            raise self.error
        self.num_processes += n


class Scaler(Autoscaler):
    """One that is told how much there is to do."""

    qty = 0


def scaler(places: int = 3, most: int = 10, least: int = 3, **options: Any) -> Scaler:
    return Scaler(Pool(places), most, least, **options)


def test_it_grows_at_once_and_no_further_than_its_bound() -> None:
    scaling = scaler()
    seen = []
    for scaling.qty in (2, 5, 40):
        scaling.maybe_scale()
        seen.append(scaling.processes)

    assert seen == [3, 5, 10]
    assert scaling.info() == {"max": 10, "min": 3, "current": 10, "qty": 40}


def test_it_shrinks_only_when_it_has_not_grown_for_a_while() -> None:
    scaling = scaler(keepalive=1000)
    scaling.qty = 8
    scaling.maybe_scale()
    scaling.qty = 1
    scaling.maybe_scale()

    assert scaling.processes == 8
    scaling.keepalive = -1
    scaling.maybe_scale()
    assert scaling.processes == 3


def test_it_does_not_shrink_while_its_places_are_needed_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(autoscale, "monotonic", lambda: clock[0])
    scaling = scaler(keepalive=30)
    for clock[0], scaling.qty in ((100.0, 10), (200.0, 10), (201.0, 0), (229.0, 0)):
        scaling.maybe_scale("a job" if scaling.qty else None)
    before = scaling.processes
    clock[0] = 231.0
    scaling.maybe_scale()

    assert (before, scaling.processes) == (10, 3)


def test_its_bounds_are_changed_while_it_runs() -> None:
    scaling = scaler(places=8)

    assert scaling.update(max=5) == (5, 3)
    assert scaling.processes == 5
    assert scaling.update(max=9, min=7) == (9, 7)
    assert scaling.processes == 7
    with pytest.raises(ValueError, match="smallest one"):
        scaling.update(max=2)
    assert (scaling.max_concurrency, scaling.min_concurrency) == (9, 7)


@pytest.mark.parametrize("error", [ValueError("all are busy"), OSError("no memory")])
def test_a_pool_that_cannot_do_it_costs_nothing(error: Exception) -> None:
    scaling = scaler()
    scaling.pool.error = error
    scaling.qty = 5
    scaling.maybe_scale()
    scaling.scale_down(1)

    assert scaling.processes == 3


def test_an_error_in_one_look_leaves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()

    class Once(Scaler):
        looks = 0

        def _maybe_scale(self, req: Any = None) -> None:
            self.looks += 1
            if self.looks == 1:
                raise KeyError("a bug")
            looked.set()

    monkeypatch.setattr(autoscale, "INTERVAL", 0.01)
    scaling = Once(Pool(3), 10, 3)
    scaling.start()
    try:
        assert looked.wait(30)
    finally:
        scaling.stop()
    assert not scaling.is_alive()


def test_a_stop_does_not_wait_for_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscale, "INTERVAL", 300.0)
    monkeypatch.setattr(autoscale, "sleep", lambda seconds: time.sleep(0.001))
    scaling = scaler()
    scaling.start()
    scaling.stop()

    assert not scaling.is_alive()


@pytest.mark.parametrize(
    ("given", "meant"),
    [("10,3", (10, 3)), ("10", (10, 0)), ((4, 4), (4, 4)), ("2,0", (2, 0))],
)
def test_bounds_are_written_as_for_celery(given: Any, meant: tuple[int, int]) -> None:
    assert bounds(given) == meant


@pytest.mark.parametrize("given", ["3,10", "many", "1,2,3", "0", "-1", "5,-1", ""])
def test_other_bounds_are_refused_with_an_example(given: str) -> None:
    with pytest.raises(ValueError, match=r"--autoscale=10,3"):
        bounds(given)


def test_one_that_would_grow_and_shrink_all_the_time_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="AUTOSCALE_KEEPALIVE"):
        scaler(keepalive=0)
