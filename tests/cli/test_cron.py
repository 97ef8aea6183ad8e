"""``pgtasks cron``: the schedule, when its entries are due, and what is said to them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from pgtasks.schedules import crontab


@pytest.fixture
def scheduled(app):
    app.conf.timezone = "Europe/Berlin"
    app.conf.beat_schedule = {
        "nightly": {"task": "tests.add", "schedule": crontab("30", "3"), "args": (1, 2)},
        "broken": {"task": "tests.add", "schedule": "61 * * * *"},
    }
    app.crons.add("by hand", "@every 10m", "tests.add", [3, 4])
    return app


def test_entries_are_listed_with_when_they_are_due(run, scheduled):
    listed = run("cron", "list")
    head, *lines = listed.stdout.splitlines()
    broken, by_hand, nightly = lines

    assert listed.exit_code == 0
    assert head.split() == ["NAME", "SCHEDULE", "TASK", "NEXT", "LAST", "RUNS", "STATE"]
    assert broken.startswith("broken") and broken.endswith("broken")
    assert by_hand.startswith("by hand  @every 600s") and by_hand.endswith("active")
    assert nightly.startswith("nightly  30 3 * * *") and nightly.endswith("idle")
    assert "61 * * * *" in listed.stderr and "Nobody sends" in listed.stderr


def test_entries_are_listed_as_json(run, scheduled):
    found = {
        each["name"]: each for each in json.loads(run("cron", "list", "--json").stdout)
    }

    assert found["nightly"]["args"] == [1, 2]
    assert found["nightly"]["source"] == "code"
    assert found["by hand"]["source"] == "table"
    assert "is no line of cron" in found["broken"]["error"]
    assert datetime.fromisoformat(found["nightly"]["next"]) > datetime.now(timezone.utc)


def test_the_next_times_are_told_in_local_time_and_in_utc(run, scheduled):
    shown = run("cron", "next", "nightly")
    found = json.loads(run("cron", "next", "--json", "-n", "2").stdout)
    head, *lines = shown.stdout.splitlines()

    assert head.split() == ["NAME", "LOCAL", "UTC"]
    assert len(lines) == 5 and all(line.endswith("UTC") for line in lines)
    assert [each["name"] for each in found] == ["by hand", "by hand", "nightly", "nightly"]
    first, second = (datetime.fromisoformat(each["utc"]) for each in found[2:])
    assert first.minute == 30 and first.hour in (1, 2), "half past three in Berlin"
    assert timedelta(hours=22) < second - first < timedelta(hours=26)


def test_an_entry_is_run_now(run, scheduled):
    answer = run("cron", "run", "nightly")
    [info] = scheduled.jobs.list()

    assert answer.stdout.strip() == info.task_id
    assert run("cron", "run", "by hand").exit_code == 0


def test_an_entry_is_paused_and_resumed(run, scheduled):
    paused = run("cron", "pause", "nightly")
    listed = run("cron", "list").stdout
    due = run("cron", "next", "nightly").stdout.splitlines()
    resumed = run("cron", "resume", "nightly")

    assert paused.stdout == "Paused nightly.\n"
    assert "paused since 20" in listed and len(due) == 1
    assert resumed.stdout == "Resumed nightly.\n"
    assert "paused" not in run("cron", "list").stdout


@pytest.mark.parametrize("what", ["pause", "resume", "run", "next"])
def test_an_entry_that_there_is_not_is_said(run, scheduled, what):
    answer = run("cron", what, "nightl")

    assert answer.exit_code != 0
    assert "There is no entry 'nightl'" in answer.output + str(answer.stderr)


def test_what_is_said_to_an_entry_is_confirmed_in_json_for_programs(run, scheduled):
    told = run("cron", "pause", "nightly", "--json")
    sent = json.loads(run("cron", "run", "nightly", "--json").stdout)

    assert json.loads(told.stdout) == {"operation": "pause", "name": "nightly"}
    assert sent["id"]
