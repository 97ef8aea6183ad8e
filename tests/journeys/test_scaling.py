"""A worker that grows while jobs wait, and shrinks when there are none."""

from __future__ import annotations

import pytest

from fleet import Fleet
from helpers import eventually
from pgtasks import Celery

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]


def places(fleet: Fleet) -> int:
    [(concurrency,)] = fleet.query("select concurrency from pgtasks.workers")
    return concurrency


@pytest.mark.parametrize("pool", ["prefork", "asyncio"])
def test_a_worker_grows_while_jobs_wait_and_shrinks_again(fleet: Fleet, pool: str):
    worker = fleet.start(
        *("-P", pool, "--autoscale", "4,1", "-Q", "journey"), AUTOSCALE_KEEPALIVE="1"
    )
    assert "concurrency: {min=1, max=4} " in fleet.log(0)
    assert places(fleet) == 1

    ids = fleet.insert("nap", 6, "[2]")
    eventually(lambda: places(fleet) == 4, timeout=30)
    client = Celery("client", broker=fleet.url, set_as_current=False)
    stats = client.control.inspect(timeout=20).stats()["w0@journey"]
    client.close()
    assert stats["autoscaler"].items() >= {"max": 4, "min": 1, "current": 4}.items()
    assert stats["pool"]["max-concurrency"] == 4
    eventually(lambda: len(fleet.events()) >= 4, timeout=30)
    states = fleet.wait(ids)
    eventually(lambda: places(fleet) == 1, timeout=30)
    after = fleet.insert("quick", 20)
    fleet.wait(after)

    assert set(states.values()) == {"completed"}
    assert all(events == ["start", "end"] for events in map(fleet.events().get, ids))
    if pool == "prefork":
        [(processes,)] = fleet.query(
            "select count(distinct pid) from ledger where event = 'end'"
        )
        assert processes == 4
    assert fleet.stop(worker) == 0
