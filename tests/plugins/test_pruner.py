"""What is old goes: by state, queue and task, in batches, while jobs run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgtasks.plugins import pruner
from pgtasks.plugins.pruner import Pruner

HOUR, DAY = 3600.0, 86400.0


def run_through(plugin: Pruner) -> dict[str, Any]:
    """Run until there is nothing left to do; the sums."""
    total: dict[str, Any] = {"runs": 0}
    again = True
    while again:
        done = dict(plugin.run())
        again = done.pop("again", False)
        total["runs"] += 1
        for name, number in done.items():
            total[name] = total.get(name, 0) + number
    return total


def test_jobs_go_after_the_time_that_results_are_kept(house):
    house.finished(3, 2 * DAY, task="old")
    house.finished(2, DAY / 2, task="young")

    assert run_through(house.lead(Pruner))["pruned_count"] == 3
    assert house.left() == {"young": 2}


def test_nothing_goes_where_results_are_kept_for_ever(house):
    house.app.conf.result_expires = None
    house.finished(3, 1000 * DAY)

    assert run_through(house.lead(Pruner))["pruned_count"] == 0


@pytest.mark.parametrize(
    ("age", "kept"),
    [
        (HOUR, {"discarded": 0, "cancelled": 0, "completed": 0}),
        (timedelta(hours=3), {"discarded": 1, "cancelled": 1, "completed": 1}),
        ({"completed": HOUR}, {"discarded": 1, "cancelled": 1, "completed": 0}),
        ({"discarded": HOUR, "cancelled": HOUR}, {"discarded": 0, "cancelled": 0, "completed": 1}),
        (None, {"discarded": 1, "cancelled": 1, "completed": 1}),
    ],
)  # fmt: skip
def test_ages_are_given_for_all_or_by_state(house, age, kept):
    for state in kept:
        house.finished(1, 2 * HOUR, state=state)

    run_through(house.lead(Pruner, max_age=age))

    assert house.left("state") == {state: 1 for state, count in kept.items() if count}


def test_the_age_of_the_task_goes_before_that_of_the_queue_and_that_before_the_state(house):
    for task, queue in [("a", "q"), ("b", "q"), ("b", "r"), ("c", "r"), ("bill", "r")]:
        house.finished(1, 2 * HOUR, task=task, queue=queue)
        house.finished(1, 2 * HOUR, task=task, queue=queue, state="discarded")

    run_through(
        house.lead(
            Pruner,
            max_age={"completed": HOUR, "discarded": DAY},
            queues={"q": DAY},
            tasks={"b": 60, "bill": {"discarded": 60, "completed": None}},
        )
    )

    assert sorted(
        house.rows("select task, queue, state::text from pgtasks.finished_jobs")
    ) == [
        ("a", "q", "completed"),
        ("a", "q", "discarded"),
        ("bill", "r", "completed"),
        ("c", "r", "discarded"),
    ]


def test_many_go_in_batches_of_a_bounded_number(house, monkeypatch):
    sizes: list[int] = []
    house.finished(1050, DAY * 2)
    plugin = house.lead(Pruner, limit=100)
    run = house.app.database.run

    def counted(query, **options):
        answer = run(query, **options)
        if isinstance(answer, pruner.pruning.Walked):
            sizes.append(answer.pruned)
        return answer

    monkeypatch.setattr(house.app.database, "run", counted)
    assert run_through(plugin)["pruned_count"] == 1050
    assert sizes == [100] * 10 + [50]


def test_a_run_leaves_off_after_a_while_and_the_next_goes_on(house, monkeypatch):
    monkeypatch.setattr(pruner, "PIECE", 0.0)
    house.finished(30, DAY * 2)
    plugin = house.lead(Pruner, limit=10)

    assert plugin.run() == {"pruned_count": 0, "again": True}
    monkeypatch.setattr(pruner, "PIECE", 2.0)
    assert run_through(plugin)["pruned_count"] == 30


def test_those_that_are_kept_longer_are_passed_once_and_not_at_each_run(house, monkeypatch):
    monkeypatch.setattr(pruner, "SLACK", 0.0)
    house.finished(500, 2 * DAY, task="kept")
    plugin = house.lead(Pruner, tasks={"kept": 30 * DAY}, limit=100)
    seen: list[int] = []
    run = house.app.database.run

    def counted(query, **options):
        answer = run(query, **options)
        if isinstance(answer, pruner.pruning.Walked):
            seen.append(answer.seen)
        return answer

    monkeypatch.setattr(house.app.database, "run", counted)
    run_through(plugin)
    first = sum(seen)
    seen.clear()
    run_through(plugin)

    assert 500 <= first <= 510, "each batch begins with the last of the one before"
    assert sum(seen) <= 2


def test_a_crowd_that_ended_in_one_moment_does_not_stop_the_walk(house):
    house.finished(50, 2 * DAY, task="kept")
    house.finished(50, 2 * DAY, task="gone")
    house.rows("update pgtasks.finished_jobs set finished_at = '2020-01-01'")

    run_through(house.lead(Pruner, tasks={"kept": 3650 * DAY}, limit=10))

    assert house.left() == {"kept": 50}


def test_jobs_that_end_late_in_the_past_are_found_all_the_same(house):
    plugin = house.lead(Pruner)
    house.finished(5, 2 * DAY)
    run_through(plugin)
    # Their transaction began before the last walk and was committed after it.
    house.finished(5, 2 * DAY - 60)
    house.finished(5, 2 * DAY + 60)

    assert run_through(plugin)["pruned_count"] == 10


def test_a_new_leader_begins_at_the_beginning(house):
    plugin = house.lead(Pruner)
    house.finished(5, 2 * DAY)
    run_through(plugin)
    house.finished(5, 20 * DAY)
    plugin.seat = house.stand()

    assert run_through(plugin)["pruned_count"] == 5


def test_a_leader_of_an_old_term_prunes_nothing(house):
    plugin = house.lead(Pruner)
    house.finished(5, 2 * DAY)
    house.stand()

    assert plugin.run() == {"pruned_count": 0}
    assert house.left() == {"t": 5}


def test_a_job_that_is_being_changed_is_left_for_the_next_run(house):
    house.finished(5, 2 * DAY)
    with house.connection.transaction():
        house.rows("update pgtasks.finished_jobs set result = '1' where id = 3")
        first = run_through(house.lead(Pruner))["pruned_count"]

    assert first == 4
    assert run_through(house.lead(Pruner))["pruned_count"] == 1


def test_the_small_tables_are_tidied_as_well(house):
    for statement in (
        "insert into pgtasks.saved_groups values ('old', '[]', now() - interval '2 days'), "
        "('young', '[]', now())",
        "insert into pgtasks.cron_ticks (entry, tick) select 'often', "
        "now() - n * interval '1 day' from generate_series(0, 9) as n",
        "insert into pgtasks.cron_ticks (entry, tick) values ('seldom', now() - interval '1 year')",
        "insert into pgtasks.replies (expires_at, key, worker, name, reply) values "
        "(now() - interval '1 day', gen_random_uuid(), gen_random_uuid(), 'w', '{}')",
        "insert into pgtasks.revoked_tasks values ('old', now() - interval '31 days'), "
        "('young', now() - interval '29 days')",
        "insert into pgtasks.revoked_stamps values ('h', '\"old\"', now() - interval '31 days'), "
        "('h', '\"young\"', now())",
    ):
        house.rows(statement)

    done = run_through(house.lead(Pruner))

    assert (done["group_count"], done["tick_count"], done["mail_count"]) == (1, 3, 1)
    assert done["revocation_count"] == 2
    assert house.rows("select id from pgtasks.saved_groups") == [("young",)]
    assert house.rows("select task_id from pgtasks.revoked_tasks") == [("young",)]
    assert house.rows("select stamp from pgtasks.revoked_stamps") == [('"young"',)]
    assert house.rows("select count(*) from pgtasks.cron_ticks where entry = 'seldom'") == [
        (1,)
    ]


def test_ticks_of_every_second_are_pruned_as_fast_as_they_come(house):
    house.rows(
        "insert into pgtasks.cron_ticks (entry, tick) select 'second', "
        "now() - interval '9 days' - n * interval '1 s' from generate_series(0, 3500) as n"
    )

    assert run_through(house.lead(Pruner))["tick_count"] == 3500


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_age": -1}, "positive"),
        ({"max_age": "1h"}, "seconds, or a timedelta"),
        ({"max_age": {"finished": 1}}, "names the state 'finished'"),
        ({"maxage": 1}, "Did you mean 'max_age'"),
        ({"tasks": ["a"]}, "map names to ages"),
        ({"revocations": -1}, "positive"),
        ({"limit": 0}, "between 1 and 100000"),
        ({"interval": 0}, "positive"),
    ],
)
def test_options_that_mean_nothing_are_refused(house, options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        Pruner(house.app, **options)
