"""Revoking tasks that a worker runs: with a worker as a process, whose children die."""

from __future__ import annotations

import pytest

from helpers import eventually
from pgtasks.exceptions import TaskRevokedError
from pgtasks.storage import revocations


def running(live, task_id):
    """What the worker says of a task that it runs."""
    replies = live.app.control.inspect(timeout=5).active() or {}
    return [task for tasks in replies.values() for task in tasks if task["id"] == task_id]


def test_a_running_task_is_terminated_and_its_process_replaced(live, tmp_path):
    never = str(tmp_path / "never")
    result = live.app.send_task("tasks.wait_for", [never])
    eventually(lambda: running(live, result.id), timeout=15)
    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=15)
    assert result.state == "REVOKED"
    assert live.app.send_task("tasks.add", [1, 2]).get(timeout=15) == 3


def test_a_running_task_that_is_revoked_may_end(live, tmp_path):
    seen = tmp_path / "seen"
    result = live.app.send_task("tasks.wait_for", [str(seen)])
    eventually(lambda: running(live, result.id), timeout=15)
    replies = live.app.control.revoke(result.id, reply=True, timeout=5)
    seen.touch()

    assert replies == [{"live@here": {"ok": f"tasks {result.id} flagged as revoked"}}]
    assert result.get(timeout=15) == "seen"
    assert result.id in live.app.control.inspect(timeout=5).revoked()["live@here"]


def test_to_terminate_what_does_not_run_is_said(live):
    replies = live.app.control.terminate("nobody", reply=True, timeout=5)

    assert replies == [{"live@here": {"ok": "terminate: tasks unknown"}}]


def test_tasks_are_revoked_from_the_command_line_without_any_worker(app, run):
    waiting = app.send_task("tests.add", [1, 2])
    revoked = run("control", "-t", "0.1", "revoke", waiting.id, "to-come")

    assert revoked.exit_code == 0
    assert "No worker replied." in revoked.stderr
    assert waiting.state == "REVOKED"
    assert app.database.run(revocations.newest(10)) == ["to-come"]
    assert run("control", "-t", "0.1", "forgive", "to-come").exit_code == 0
    assert app.database.run(revocations.newest(10)) == []
    # Whom it is said to must be there to hear it.
    assert run("control", "-t", "0.1", "-d", "x@y", "revoke", "a").exit_code == 69


def test_stamps_are_revoked_from_the_command_line(app, run):
    signature = app.signature("tests.add", args=[1, 2])
    signature.stamp(tenant="acme")
    waiting = signature.apply_async()
    run("control", "-t", "0.1", "revoke_by_stamped_headers", "tenant=acme")

    assert waiting.state == "REVOKED"
    assert app.database.run(revocations.stamps()) == [("tenant", '"acme"')]


def test_running_tasks_are_terminated_by_their_stamps(live, tmp_path):
    never = str(tmp_path / "never")
    signature = live.app.signature("tasks.wait_for", args=[never])
    signature.stamp(tenant="acme")
    result = signature.apply_async()
    eventually(lambda: running(live, result.id), timeout=15)
    [reply] = live.app.control.revoke_by_stamped_headers(
        {"tenant": ["acme"]}, terminate=True, reply=True, timeout=15
    )

    assert reply == {"live@here": {"ok": "headers {'tenant': {'acme'}} revoked"}}
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=15)


def test_stamps_that_were_revoked_are_revoked_when_they_come_later(live):
    live.app.control.revoke_by_stamped_headers(
        {"tenant": "umbrella"}, reply=True, timeout=5
    )
    signature = live.app.signature("tasks.add", args=[1, 2])
    signature.stamp(tenant="umbrella")

    with pytest.raises(TaskRevokedError):
        signature.apply_async().get(timeout=15)
    assert live.app.send_task("tasks.add", [1, 2]).get(timeout=15) == 3
