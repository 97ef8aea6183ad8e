from __future__ import annotations

import json

import pytest


def test_queues_are_listed_as_plain_lines_for_programs(run, app):
    app.send_task("tests.add", queue="mail")
    app.send_task("tests.add", queue="mail", countdown=600)
    app.queues.pause("mail", by="ops")
    app.queues.limit("mail", concurrency=5, rate="100/m")
    listed = run("queues")

    assert listed.exit_code == 0, listed.stderr
    head, line = listed.stdout.splitlines()
    assert head.split() == [
        "QUEUE", "STATE", "WAITING", "LATER", "RUNNING", "OLDEST", "LIMITS", "WORKERS",
    ]  # fmt: skip
    assert line.startswith("mail   paused since 20")
    assert "by ops" in line
    assert "5 in the fleet, 100/m" in line


def test_queues_are_listed_as_json(run, app):
    app.send_task("tests.add", queue="mail")
    listed = run("queues", "--json")

    [queue] = json.loads(listed.stdout)
    assert queue["name"] == "mail"
    assert queue["states"] == {"available": 1}
    assert queue["paused"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause", "mail"], "Paused mail."),
        (["pause", "mail", "--node", "w1@here"], "Paused mail on w1@here."),
        (["pause", "--all"], "Paused all queues."),
        (["resume", "mail"], "Resumed mail."),
        (["resume", "--all"], "Resumed all queues."),
        (["scale", "mail", "--limit", "3"], "mail: 3 at a time in each worker."),
        (["start", "mail", "--limit", "2", "-n", "w1"], "Started mail on w1."),
        (["stop", "mail"], "Stopped mail."),
        (["limit", "mail", "--concurrency", "5"], "Limited mail."),
        (["limit", "mail", "--remove"], "mail: there was no limit."),
        (["limit", "--task", "tests.add", "--rate", "5/s"], "Limited tests.add."),
    ],
)
def test_what_is_said_about_a_queue_is_confirmed(run, words, said):
    answer = run("queues", *words)

    assert answer.exit_code == 0, answer.stderr
    assert answer.stdout == f"{said}\n"


def test_pausing_a_queue_shows_and_resuming_it_too(run, app):
    run("queues", "pause", "mail")
    assert app.queues.check("mail").paused

    run("queues", "resume", "mail")
    assert not app.queues.check("mail").paused


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["pause"], "Name a queue, or say --all."),
        (["pause", "mail", "--all"], "Name a queue, or say --all."),
        (["pause", "*"], "pause_all()"),
        (["scale", "*", "--limit", "3"], "is not the name of a queue"),
        (["start", ""], "is not the name of a queue"),
        (["limit", "mail"], "give concurrency= or rate="),
        (["limit", "mail", "--rate", "fast"], "'100/m'"),
        (["limit", "--rate", "5/s"], "name one of them"),
    ],
)
def test_a_command_that_says_too_little_tells_what_is_missing(run, words, remedy):
    answer = run("queues", *words)

    assert answer.exit_code == 2
    assert remedy in answer.stderr


def test_all_queues_being_paused_is_said(run, app):
    app.queues.pause_all()
    app.send_task("tests.add", queue="mail")
    listed = run("queues")

    assert "paused since" in listed.stdout
    assert "All queues are paused" in listed.stderr


def test_what_is_said_is_confirmed_in_json_for_programs(run):
    answer = run("queues", "scale", "mail", "--limit", "3", "-n", "w1", "--json")

    assert json.loads(answer.stdout) == {
        "operation": "scale", "queue": "mail", "limit": 3, "node": "w1"
    }  # fmt: skip
