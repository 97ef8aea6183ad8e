"""Tasks that behave badly: each harms itself at most."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from corpus import Case, cases
from workplace import LONGEST_TEXT, Workplace, check_log, in_time

from helpers import children, eventually

pytestmark = pytest.mark.journey

HERE = Path(__file__).parent


@dataclass
class Scene:
    """One case, where it is played, and what else pytest has."""

    case: Case
    workplace: Workplace
    behaviour: ModuleType
    request: pytest.FixtureRequest

    def result(self, task_id: str) -> Any:
        return self.behaviour.app.AsyncResult(task_id)


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_what_happened_here_is_left_over(workplace: Workplace) -> Iterator[None]:
    """The worker that has seen it all is the one that was started first, and idle."""
    yield
    with workplace.undisturbed():
        pass
    left = workplace.query("select task, state::text from pgtasks.jobs")
    assert left == []
    assert workplace.crew.stop() == 0


@pytest.mark.parametrize("case", cases("task-behaviour"))
def test_a_task_that_behaves_badly(
    case: Case,
    workplace: Workplace,
    behaviour: ModuleType,
    request: pytest.FixtureRequest,
):
    play = PLAYS.get(case.id) or PLAYS[case.expect]
    in_time(lambda: play(Scene(case, workplace, behaviour, request)))


PLAYS: dict[str, Callable[[Scene], None]] = {}


def play(name: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """How an outcome is checked, or one case that needs more than that."""

    def add(function: Callable[[Scene], None]) -> Callable[[Scene], None]:
        PLAYS[name] = function
        return function

    return add


# ── outcomes ────────────────────────────────────────────────────────────────────────────


@play("job_failed_retry")
def it_fails_with_a_bounded_error_and_is_retried_as_configured(scene: Scene):
    workplace, more = scene.workplace, scene.case.more
    for call in more["calls"]:
        # As Celery has it, and with what max_attempts adds.
        for attempts in (1, call.get("max_attempts", 2)):
            columns = {} if attempts == 1 else {"max_attempts": str(attempts)}
            with workplace.undisturbed():
                task_id = workplace.call(call["task"], *call.get("args", ()), **columns)
                workplace.wait(task_id)
            runs = 1 if attempts == 1 else call.get("runs", 2)
            check_failed(scene, task_id, runs=runs, **more)


def check_failed(
    scene: Scene, task_id: str, *, runs: int, kind: str, says: str = "", **more: Any
) -> dict[str, Any]:
    """What is written of a job that failed in each of so many runs, and what a caller gets."""
    job = scene.workplace.job(task_id)
    assert job["state"] == "discarded"
    assert job["attempt"] == runs
    assert scene.workplace.events(task_id).count("ran") == runs
    assert job["crashes"] == (runs if more.get("crashes") else 0)
    assert len(job["errors"]) == runs
    for error in job["errors"]:
        assert re.search(kind, error["kind"]), error["kind"]
        assert re.search(says, error["message"]), error["message"][:1000]
        assert len(error["message"]) <= LONGEST_TEXT
        assert len(error["traceback"]) <= LONGEST_TEXT
        error["message"].encode()
    assert len(job["result"]) <= 2 * LONGEST_TEXT

    result = scene.result(task_id)
    assert result.state == "FAILURE"
    with pytest.raises(Exception, match=more.get("raises_match")) as caught:
        result.get(timeout=5)
    assert re.search(more.get("raises", kind), type(caught.value).__name__)
    return job


@play("roundtrip")
def it_ends_well(scene: Scene):
    [call] = scene.case.more["calls"]
    with scene.workplace.undisturbed():
        task_id = scene.workplace.call(call["task"], *call.get("args", ()))
        assert scene.workplace.wait(task_id) == {task_id: "completed"}
    value = scene.result(task_id).get(timeout=5)
    assert repr(value) == call["returns"]


# ── the process ─────────────────────────────────────────────────────────────────────────


@play("task-behaviour-segv")
def a_task_that_takes_its_process_down_each_time_is_given_up_after_three(scene: Scene):
    it_fails_with_a_bounded_error_and_is_retried_as_configured(scene)
    with scene.workplace.undisturbed():
        task_id = scene.workplace.call("segv", max_attempts="100")
        scene.workplace.wait(task_id)
    check_failed(scene, task_id, runs=3, **scene.case.more)


@play("task-behaviour-oom")
def what_runs_out_of_memory_is_given_up_after_three(scene: Scene):
    it_fails_with_a_bounded_error_and_is_retried_as_configured(scene)
    with scene.workplace.undisturbed():
        task_id = scene.workplace.call("oom", True, max_attempts="100")
        scene.workplace.wait(task_id)
    check_failed(
        scene, task_id, runs=3, kind="WorkerLostError", says="SIGKILL", crashes=True
    )


@play("task-behaviour-kill9-parent")
def whatever_it_kills_above_it_no_neighbour_is_lost(scene: Scene):
    workplace = scene.workplace
    queue = {"queue": "'doomed'"}
    heir = workplace.crew
    for generations, status in ((1, 70), (2, -signal.SIGKILL)):
        doomed = workplace.hire("-c", "2", queue="doomed", lease=1.0)
        # From short jobs it learns to claim some more than it can run.
        workplace.wait(*workplace.put(*[{"task": "'behaviour.good'", **queue}] * 50))
        with workplace.undisturbed(crew=heir):
            task_id = workplace.call("kill9_parent", generations, **queue)
            others = workplace.put(*[queue] * 20)
            # The process that its children are copied from: it hands back what it holds
            # and ends. The worker itself: the heir looks after that.
            assert doomed.process.wait(20) == status
            workplace.crews.remove(doomed)
            workplace.wait(task_id)

        check_failed(
            scene, task_id, runs=1, kind="WorkerLostError", crashes=generations == 1
        )
        assert workplace.job(task_id)["lost"] == (generations == 2)
        check_log(doomed.log())
        # What had not begun waits, as if nothing had happened.
        rows = workplace.query(
            "select attempt, lost from pgtasks.jobs where task_id = any(%s)", others
        )
        assert set(rows) <= {(0, 0)}
        successor = workplace.hire("-c", "1", queue="doomed")
        states = workplace.wait(*others)
        unseen = [each for each in others if workplace.events(each) != ["ran"]]
        # Given up is only what had begun and was not yet written as done; the one in the
        # other process may have had no time to write down that it ran.
        assert len(unseen) <= 1
        assert {states[each] for each in unseen} <= {"discarded"}
        assert list(states.values()).count("completed") >= 10
        assert set(states.values()) <= {"completed", "discarded"}
        assert successor.stop() == 0
        workplace.crews.remove(successor)


@play("task-behaviour-fd-leak")
def the_process_without_descriptors_is_replaced_and_the_parent_keeps_its_own(scene: Scene):
    crew = scene.workplace.crew
    before, pids = descriptors_of(crew.pid), set(children(crew.pid))

    it_fails_with_a_bounded_error_and_is_retried_as_configured(scene)

    assert abs(descriptors_of(crew.pid) - before) < 20
    eventually(lambda: all(descriptors_of(pid) < 100 for pid in children(crew.pid)))
    assert set(children(crew.pid)) != pids


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@play("task-behaviour-fork-bomb-threads")
def threads_without_number_stay_in_their_process(scene: Scene):
    crew = scene.workplace.crew
    it_fails_with_a_bounded_error_and_is_retried_as_configured(scene)
    assert threads_of(crew.pid) < 30
    assert all(os.path.exists(f"/proc/{pid}") for pid in children(crew.pid))
    # Who cannot bear what is left of it has its process replaced.
    assert max(threads_of(pid) for pid in children(crew.pid)) > 3


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@play("task-behaviour-chdir-umask")
def what_a_task_changes_of_its_process_stays_in_it(scene: Scene):
    workplace, crew = scene.workplace, scene.workplace.crew
    before = umask_of(crew.pid)
    with workplace.undisturbed():
        task_id = workplace.call("chdir_umask")
        assert workplace.wait(task_id) == {task_id: "completed"}
    changed = json.loads(workplace.job(task_id)["result"])
    places = {
        pid: os.readlink(f"/proc/{pid}/cwd") for pid in [crew.pid, *children(crew.pid)]
    }
    assert places.pop(changed) == "/"
    assert set(places.values()) == {str(HERE)}
    assert (umask_of(changed), umask_of(crew.pid)) == ("0000", before)


def umask_of(pid: int) -> str:
    return re.search(r"Umask:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]


@play("task-behaviour-signal-override")
def a_deaf_task_is_ended_all_the_same(scene: Scene):
    workplace = scene.workplace
    with workplace.undisturbed():
        task_id = workplace.call("deaf", soft_time_limit="0.3", time_limit="0.8")
        workplace.wait(task_id)
    [error] = workplace.job(task_id)["errors"]
    assert error["kind"] == "TimeLimitExceeded"

    crew = workplace.hire("-c", "1", queue="deaf")
    with workplace.undisturbed():
        task_id = workplace.call("deaf", queue="'deaf'")
        workplace.await_event(task_id, "deaf")
        [child] = children(crew.pid)
        for number, word in ((signal.SIGTERM, "Warm"), (signal.SIGQUIT, "Cold")):
            crew.process.send_signal(number)
            text = f"worker: {word} shutdown (MainProcess)"
            eventually(lambda text=text: text in crew.log(), message=crew.log)
        assert crew.process.wait(10) == 0
        assert not os.path.exists(f"/proc/{child}")
    job = workplace.job(task_id)
    assert (job["state"], job["errors"][0]["kind"]) == ("discarded", "WorkerLostError")
    check_log(crew.log())


# ── being believed dead ─────────────────────────────────────────────────────────────────


def not_taken_for_dead(scene: Scene, task: str, seconds: float) -> None:
    """It runs for longer than a lease in a threads pool, before the eyes of another worker."""
    workplace = scene.workplace
    crew = workplace.hire("-c", "2", "-P", "threads", queue="busy", lease=1.0)
    with workplace.undisturbed():
        task_id = workplace.call(task, seconds, queue="'busy'")
        workplace.await_event(task_id, "began")
        assert workplace.wait(task_id) == {task_id: "completed"}
    job = workplace.job(task_id)
    assert (job["attempt"], job["lost"]) == (1, 0)
    assert workplace.events(task_id) == ["began"]
    assert scene.result(task_id).get(timeout=5) == "done"
    assert "goes on as a new one" not in crew.log()
    assert workplace.query(
        "select count(*) from pgtasks.workers where dead_at is not null"
    ) == [(0,)]
    assert crew.stop() == 0
    check_log(crew.log())


@play("task-behaviour-gil-hog")
def a_worker_whose_interpreter_is_held_is_not_taken_for_dead(scene: Scene):
    forget_the_dead(scene)
    not_taken_for_dead(scene, "hold_the_interpreter", 3.0)


@play("task-behaviour-loop-block")
def a_coroutine_that_blocks_runs_to_its_end(scene: Scene):
    forget_the_dead(scene)
    not_taken_for_dead(scene, "loop_block", 2.5)
    # And in a process of its own.
    with scene.workplace.undisturbed():
        task_id = scene.workplace.call("loop_block", 0.2)
        assert scene.workplace.wait(task_id) == {task_id: "completed"}


def forget_the_dead(scene: Scene) -> None:
    """Workers that earlier cases have killed are not to be counted."""
    scene.workplace.query("delete from pgtasks.workers where dead_at is not null")


@play("task-behaviour-sigstop")
def a_stopped_worker_is_rescued_once_and_wakes_up_harmless(scene: Scene):
    workplace = scene.workplace
    queue = {"queue": "'stopped'"}
    sleeper = workplace.hire("-c", "2", queue="stopped", lease=1.0)
    with workplace.undisturbed():
        safe = workplace.call("gated", **queue)
        early = workplace.call("gated_early", **queue)
        workplace.await_event(safe, "began")
        workplace.await_event(early, "began")

        os.killpg(sleeper.pid, signal.SIGSTOP)
        heir = workplace.hire("-c", "2", queue="stopped", lease=1.0)
        workplace.await_event(safe, "began", times=2)
        assert workplace.wait(early) == {early: "discarded"}
        workplace.open_gate(safe)
        assert workplace.wait(safe) == {safe: "completed"}

        workplace.open_gate(early)
        os.killpg(sleeper.pid, signal.SIGCONT)
        # It had not been run elsewhere, so that what became of it in truth still counts.
        eventually(lambda: workplace.state(early) == "completed")
        eventually(lambda: "goes on as a new one" in sleeper.log(), message=sleeper.log)
        workplace.await_event(safe, "ended", times=2)

    assert json.loads(workplace.job(early)["result"]) == "run 1"
    assert json.loads(workplace.job(safe)["result"]) == "run 2"
    assert workplace.job(safe)["lost"] == 1
    for task_id in (safe, early):
        finals = workplace.query(
            "select count(*) from pgtasks.finished_jobs where task_id = %s", task_id
        )
        assert (finals, workplace.states([task_id])) == ([(1,)], {task_id: "completed"})
    for crew in (sleeper, heir):
        assert crew.stop() == 0
        check_log(crew.log())


@play("task-behaviour-clock-back")
def the_clock_of_the_machine_may_be_set(scene: Scene):
    workplace = scene.workplace
    forget_the_dead(scene)
    clock = scene.request.getfixturevalue("tmp_path") / "clock"
    queue = {"queue": "'clock'"}
    crew = workplace.hire(
        "-c", "2", queue="clock", lease=1.0,
        PYTHONPATH=str(HERE / "clock"), BAD_INPUTS_CLOCK=str(clock),
    )  # fmt: skip

    def shift_seen_by_a_task() -> float:
        task_id = workplace.call("clock", **queue)
        workplace.wait(task_id)
        by_time, by_datetime = json.loads(workplace.job(task_id)["result"])
        assert abs(by_time - by_datetime) < 1
        [(now,)] = workplace.query("select extract(epoch from clock_timestamp())::float8")
        return by_time - now

    for shift in (-3600.0, 3600.0):
        with workplace.undisturbed():
            running = workplace.call("gated", **queue)
            workplace.await_event(running, "began")
            due = "clock_timestamp() + interval '1 s'"
            ahead = [
                workplace.call("good", state="'scheduled'", scheduled_at=due, **queue),
                workplace.call("retry_neg", state="'retryable'", scheduled_at=due, **queue),
            ]
            expiring = workplace.call(
                "good", state="'scheduled'", scheduled_at=due,
                expires_at="clock_timestamp() + interval '600 s'", **queue,
            )  # fmt: skip

            clock.write_text(str(shift))
            assert abs(shift_seen_by_a_task() - shift) < 5

            limited = workplace.call("sleeper", 60, time_limit="0.5", **queue)
            assert workplace.wait(limited) == {limited: "discarded"}
            assert workplace.job(limited)["errors"][0]["kind"] == "TimeLimitExceeded"
            beat = workplace.beat_of(crew)
            eventually(lambda beat=beat: workplace.beat_of(crew) >= beat + 5)
            states = workplace.wait(*ahead, expiring)
            assert set(states.values()) == {"completed"}
            workplace.open_gate(running)
            assert workplace.wait(running) == {running: "completed"}
        late = workplace.query(
            "select max(extract(epoch from finished_at - scheduled_at)) from "
            "pgtasks.finished_jobs where task_id = any(%s)",
            [ahead[0], expiring],
        )
        assert 0 <= late[0][0] < 1
        assert workplace.events(running) == ["began", "go", "ended"]
        [(lasted,)] = workplace.query(
            "select extract(epoch from finished_at - attempted_at) "
            "from pgtasks.finished_jobs where task_id = %s",
            limited,
        )
        assert 0.4 < lasted < 3

    assert "goes on as a new one" not in crew.log()
    [(dead,)] = workplace.query(
        "select count(*) from pgtasks.workers where dead_at is not null"
    )
    assert dead == 0
    assert crew.stop() == 0


# ── results and retries ─────────────────────────────────────────────────────────────────


@play("task-behaviour-retry-max-none")
def endless_retries_are_bounded_in_all_but_number(scene: Scene):
    workplace = scene.workplace
    with workplace.undisturbed():
        task_id = workplace.call("retry_max_none", 30)
        # Late in such a life, the next wait is still no longer than the longest.
        old = workplace.call("back_off", 100_002, retries="100000")
        assert workplace.wait(task_id, old) == {task_id: "completed", old: "completed"}
    job = workplace.job(task_id)
    assert (job["attempt"], job["retries"]) == (31, 30)
    assert [error["message"] for error in job["errors"]] == [
        f"number {number}" for number in range(10, 30)
    ]
    assert workplace.job(old)["retries"] == 100_002


# ── other trouble ───────────────────────────────────────────────────────────────────────


@play("task-behaviour-tx-left-open")
def a_transaction_left_open_is_ended_by_the_server(scene: Scene):
    workplace = scene.workplace
    with workplace.undisturbed():
        task_id = workplace.call("tx_left_open")
        assert workplace.wait(task_id) == {task_id: "completed"}
        # What it locked is free again when the server has lost patience.
        eventually(
            lambda: workplace.query("select pg_try_advisory_lock(4711)") == [(True,)]
        )
        workplace.query("select pg_advisory_unlock_all()")
    # Longer than the 0.3 s of the test, and not for ever.
    assert json.loads(workplace.job(task_id)["result"]) == "15s"
    assert workplace.query(
        "select count(*) from pg_stat_activity where state = 'idle in transaction' "
        "and datname = current_database()"
    ) == [(0,)]


@play("task-behaviour-log-secret")
def secrets_that_the_caller_hides_are_seen_nowhere(scene: Scene):
    workplace, app = scene.workplace, scene.behaviour.app
    secret = "pa55phrase-of-mine"
    mark = len(workplace.crew.log().encode(errors="surrogateescape"))
    for fail in (False, True, "retry"):
        with workplace.undisturbed():
            result = scene.behaviour.secretive.apply_async(
                (secret, fail),
                {"pin": secret},
                argsrepr="('***',)",
                kwargsrepr="{'pin': '***'}",
            )
            workplace.await_event(result.id, "began")
            active = app.control.inspect(timeout=5).active()
            assert "***" in repr(active)
            assert secret not in repr(active)
            seen = workplace.query(
                "select query from pg_stat_activity where pid <> pg_backend_pid()"
            )
            assert seen
            assert secret not in repr(seen)
            workplace.open_gate(result.id)
            workplace.wait(result.id)
        job = workplace.job(result.id)
        assert (job["state"] == "discarded") == bool(fail)
        assert secret not in repr(job)
    assert secret not in workplace.crew.log(mark)


@play("task-behaviour-stdout-binary")
def what_no_log_can_hold_is_logged_escaped(scene: Scene):
    mark = len(scene.workplace.crew.log().encode(errors="surrogateescape"))
    it_ends_well(scene)
    log = scene.workplace.crew.log(mark)
    assert r"\udcff" in log
    assert r"a\udcffb" in log
