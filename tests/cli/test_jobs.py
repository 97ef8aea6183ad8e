"""``pgtasks jobs`` and ``pgtasks why``: what people see and do."""

from __future__ import annotations

import json

import pytest

from pgtasks import Celery


@pytest.fixture
def jobs(app):
    """Three jobs: one that waits, one for later, one that was cancelled."""
    add = app.tasks["tests.add"]
    first = add.apply_async((1, 2), task_id="first", tags=["b2b"], meta={"tenant": "acme"})
    add.apply_async((3, 4), task_id="later", queue="mail", countdown=3600, priority=3)
    add.apply_async((5, 6), task_id="gone")
    app.jobs.cancel("gone", by="ann", reason="no need")
    return first


def lines(result):
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def shown(result):
    return [line.split()[0] for line in lines(result)[1:]]


def test_jobs_are_listed_the_newest_first(run, jobs):
    result = run("jobs")

    assert lines(result)[0].split() == [
        "TASK_ID", "TASK", "STATE", "QUEUE", "ATTEMPT", "SCHEDULED_AT", "CALL"
    ]  # fmt: skip
    assert shown(result) == ["gone", "later", "first"]
    assert "(3, 4)" in result.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--state", "cancelled"], ["gone"]),
        (["--state", "available,scheduled"], ["later", "first"]),
        (["--queue", "mail"], ["later"]),
        (["--task", "tests.*", "--limit", "2"], ["gone", "later"]),
        (["--tag", "b2b"], ["first"]),
        (["--meta", "tenant=acme"], ["first"]),
        (["--arg", "x=3"], ["later"]),
        (["--arg", "4"], ["later"]),
        (["--priority", "3"], ["later"]),
        (["--error", "TaskRevoked%"], ["gone"]),
        (["--since", "1h", "--order", "inserted"], ["first", "later", "gone"]),
        (["--due-after", "2030-01-01"], []),
        (["--finished-after", "1h"], ["gone"]),
        (["--not-held", "--state", "available"], ["first"]),
    ],
)
def test_they_are_looked_for(run, jobs, words, found):
    result = run("jobs", *words)

    if found:
        assert shown(result) == found
    else:
        assert result.stdout == ""
        assert "There are no such jobs." in result.stderr


def test_columns_are_chosen(run, jobs):
    result = run("jobs", "--columns", "task_id,state,error", "--state", "cancelled")

    assert lines(result)[1].split(maxsplit=2) == [
        "gone", "cancelled", "TaskRevokedError: cancelled by ann: no need"
    ]  # fmt: skip
    assert run("jobs", "--columns", "nothing").exit_code == 2


def test_each_line_of_json_is_a_job(run, jobs):
    found = [json.loads(line) for line in lines(run("jobs", "--json"))]
    few = [
        json.loads(line) for line in lines(run("jobs", "-j", "--columns", "task_id,state"))
    ]

    assert [each["task_id"] for each in found] == ["gone", "later", "first"]
    assert found[2]["meta"] == {"tenant": "acme"}
    assert few[0] == {"task_id": "gone", "state": "cancelled"}


def test_jobs_are_counted(run, jobs):
    assert lines(run("jobs", "--count")) == ["3"]
    assert json.loads(run("jobs", "--count", "--json", "--queue", "mail").stdout) == {
        "jobs": 1
    }
    assert lines(run("jobs", "--group-by", "queue,state")) == [
        "QUEUE   STATE      JOBS",
        "mail    scheduled  1",
        "celery  available  1",
        "celery  cancelled  1",
    ]
    counted = lines(run("jobs", "--group-by", "queue", "--json"))
    assert [json.loads(line) for line in counted] == [
        {"queue": "celery", "jobs": 2}, {"queue": "mail", "jobs": 1}
    ]  # fmt: skip


def test_one_job_is_shown_with_all_that_is_known(run, jobs):
    text = run("jobs", "show", "gone").stdout

    for words in (
        "id            gone (row ",
        "task          tests.add(5, 6)",
        "state         cancelled (REVOKED)",
        "queue         celery, priority 0",
        "TaskRevokedError: cancelled by ann: no need",
    ):
        assert words in text
    assert json.loads(run("jobs", "show", "first", "--json").stdout)["tags"] == ["b2b"]


def test_an_unknown_id_is_said_to_be(run, jobs):
    for words in (("jobs", "show", "x"), ("why", "x"), ("jobs", "retry", "x")):
        result = run(*words)
        assert result.exit_code == 1
        assert "There is no job 'x'" in result.stderr


# ── operations ──────────────────────────────────────────────────────────────────────────


def test_one_named_job_is_acted_on_without_a_question(run, jobs, app):
    assert lines(run("jobs", "retry", "gone")) == ["Retried 1 job."]
    assert app.jobs.get("gone").state == "available"
    assert lines(run("jobs", "hold", "first")) == ["Held 1 job."]
    assert lines(run("jobs", "release", "first")) == ["Released 1 job."]
    assert lines(run("jobs", "reprioritise", "first", "--to", "4")) == [
        "Reprioritised 1 job."
    ]
    assert lines(run("jobs", "cancel", "first", "--reason", "withdrawn")) == [
        "Cancelled 1 job."
    ]
    assert app.jobs.get("first").error["message"].endswith(": withdrawn")
    assert app.jobs.get("first").priority == 4


def test_many_are_asked_about_and_a_no_changes_nothing(run, jobs, app):
    refused = run("jobs", "cancel", "--task", "tests.*", input="n\n")
    assert refused.exit_code == 1
    assert "Cancel 2 jobs (1 scheduled, 1 available, 1 cancelled found)?" in refused.stdout
    assert app.jobs.count(state="cancelled") == 1

    agreed = run("jobs", "cancel", "--task", "tests.*", input="y\n")
    assert agreed.stdout.endswith("Cancelled 2 jobs.\n")
    assert app.jobs.count(state="cancelled") == 3


def test_a_deletion_is_always_asked_about(run, jobs, app):
    assert run("jobs", "delete", "first", input="n\n").exit_code == 1
    assert "there is no way back" in run("jobs", "delete", "first", input="n\n").stdout
    assert lines(run("jobs", "delete", "first", "--yes")) == ["Deleted 1 job."]
    assert app.jobs.count() == 2


def test_a_dry_run_only_counts(run, jobs, app):
    result = run("jobs", "delete", "--queue", "mail,celery", "--dry-run", "--json")

    assert json.loads(result.stdout) == {"operation": "delete", "jobs": 3, "dry_run": True}
    assert lines(run("jobs", "retry", "gone", "--dry-run")) == ["Would retry 1 job."]
    assert app.jobs.count() == 3


def test_what_waits_is_changed(run, jobs, app):
    result = run(
        "jobs", "update", "first", "--set", "queue=mail", "--set", "args=[7]", "--set",
        "scheduled_at=2h", "--set", "tags=a, b", "--set", "expires=never", "--set",
        'meta={"x": 1}', "--set", "priority=5", "--set", 'kwargs={"y": 1}',
    )  # fmt: skip
    job = app.jobs.get("first")

    assert lines(result) == ["Updated 1 job."]
    assert (job.queue, job.args, job.kwargs, job.state) == (
        "mail",
        [7],
        {"y": 1},
        "scheduled",
    )
    assert (job.tags, job.meta, job.priority) == (["a", "b"], {"x": 1}, 5)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["jobs", "retry"], 2, "Which jobs?"),
        (
            ["jobs", "retry", "gone", "--queue", "x"],
            2,
            "either jobs by their ids or options",
        ),
        (["jobs", "--queue", "x", "delete", "-y"], 2, "stand behind the command"),
        (["jobs", "--state", "availabel"], 2, "Did you mean 'available'"),
        (["jobs", "--older-than", "soon"], 2, "no span of time"),
        (["jobs", "--since", "soon"], 2, "is no time"),
        (["jobs", "--meta", "tenant"], 2, "write name=value"),
        (["jobs", "--order", "x"], 2, "jobs can be listed by"),
        (["jobs", "--priority", "x"], 2, "whole number"),
        (["jobs", "--group-by", "x"], 2, "can be counted by"),
        (["jobs", "update", "first"], 2, "What shall be changed?"),
        (["jobs", "update", "first", "--set", "querue=x"], 2, "Did you mean 'queue'"),
        (["jobs", "cancel", "gone"], 1, "is cancelled since"),
        (["jobs", "release", "first"], 1, "is not held but available"),
        (["jobs", "delete", "--state", "executing"], 1, "cannot be deleted"),
    ],
)
def test_what_cannot_be_is_said_with_a_remedy(run, jobs, words, status, message):
    result = run(*words)

    assert (result.exit_code, message in result.stderr) == (status, True), result.stderr


def test_a_row_cannot_forge_lines_of_output(run, app):
    app.send_task("tests.add", ["a\x1b[2J\nb"], task_id="evil\nid", queue="q\r")
    for result in (run("jobs"), run("jobs", "show", "evil\nid"), run("why", "evil\nid")):
        assert "\x1b" not in result.stdout
        assert "\r" not in result.stdout
    assert len(lines(run("jobs"))) == 2


# ── why ─────────────────────────────────────────────────────────────────────────────────


def test_why_says_what_is_the_case_and_what_to_do(run, jobs):
    assert lines(run("why", "first")) == [
        "tests.add[first] in queue celery: available",
        "  There is no worker at all.",
        "    -> Start one: pgtasks worker -Q celery",
    ]
    found = json.loads(run("why", "later", "--json").stdout)
    assert [reason["code"] for reason in found["reasons"]] == ["scheduled", "no_worker"]


@pytest.mark.parametrize(
    "words",
    [("jobs",), ("jobs", "cancel", "--state", "available"), ("why", "x"), ("queues",)],
)
def test_nobody_waits_for_a_database_that_is_not_there(run, words):
    nowhere = Celery("nowhere", broker="postgresql://127.0.0.1:1/x", set_as_current=False)
    answer = run(*words, app=nowhere)

    assert answer.exit_code == 69
    assert "Start the server, or correct host and port" in answer.stderr
    assert "Given up after" not in answer.stderr, "it was tried again and again"
