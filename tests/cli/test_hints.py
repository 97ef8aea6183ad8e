"""Did you mean …? For queues and tasks that may be new, and may be misspelt."""

from __future__ import annotations

import pytest


@pytest.fixture
def mailers(app):
    app.send_task("tests.add", queue="mailers")
    return app


@pytest.mark.parametrize(
    "words",
    [
        ["queues", "pause", "mailrs"],
        ["queues", "limit", "mailrs", "--concurrency", "3"],
        ["purge", "-f", "-Q", "mailrs"],
        ["jobs", "--queue", "mailrs"],
    ],
)
def test_a_misspelt_queue_is_recognized(run, mailers, words):
    result = run(*words)

    assert result.exit_code == 0, result.output
    assert "No queue 'mailrs' is known here. Did you mean 'mailers'?" in result.stderr


def test_a_queue_that_is_known_or_like_none_is_not_doubted(run, mailers):
    assert "Did you mean" not in run("queues", "pause", "mailers").stderr
    assert "Did you mean" not in run("queues", "pause", "celery").stderr
    assert "Did you mean" not in run("queues", "pause", "reports").stderr


def test_a_misspelt_task_is_recognized(run, mailers):
    shown = run("jobs", "--task", "tests.ad")

    assert "No task 'tests.ad' is known here. Did you mean 'tests.add'?" in shown.stderr
    assert "Did you mean" not in run("jobs", "--task", "tests.a?").stderr
    assert "Did you mean 'tests.add'" in run("call", "tests.ad").stderr
    refused = run("result", "-t", "tests.ad", "x")
    assert (refused.exit_code, "Did you mean 'tests.add'" in refused.stderr) == (2, True)
