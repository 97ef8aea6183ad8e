"""Jobs of which one runs at a time, on two workers in processes, one of which is killed."""

from __future__ import annotations

from fleet import Fleet
from helpers import eventually


def test_one_runs_at_a_time_on_the_whole_fleet_though_a_worker_is_killed(
    fleet: Fleet,
) -> None:
    first, _ = (
        fleet.start("-c", "4", "-Q", "journey"),
        fleet.start("-c", "4", "-Q", "journey"),
    )
    ids = fleet.insert("safe_nap", 20, args="[0.05]", headers='{"alone": "account 7"}')
    eventually(lambda: fleet.finished(ids) > 3)
    first.kill()

    states = fleet.wait(ids, timeout=90)

    assert set(states.values()) == {"completed"}
    events = fleet.query("select task_id, event from ledger order by seq")
    ends = 0
    for place, (task_id, event) in enumerate(events):
        if event == "start":
            # The one that was killed never says that it has ended, and begins once more.
            mine = [each for each in events[place + 1 :] if each[0] == task_id][:1]
            if mine == [(task_id, "end")]:
                assert events[place + 1] == (task_id, "end")
                ends += 1
    # One that had ended, and whose end was not written yet, has run twice.
    assert ends >= len(ids)
