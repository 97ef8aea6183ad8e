"""Events, and the picture of a cluster that they add up to."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from typing import Any

import pytest

from pgtasks import Celery, states
from pgtasks.events import Event, get_exchange, group_from
from pgtasks.events.snapshot import Polaroid, evcam
from pgtasks.events.state import State, Task, Worker


@pytest.fixture
def app():
    with Celery("events", broker="memory://", set_as_current=False) as app:
        yield app


def told(picture: State, type: str, clock: int = 0, **fields: Any) -> Any:
    now = fields.pop("at", time.time())
    given = {"hostname": "w@here", "timestamp": now, "local_received": now, "clock": clock}
    return picture.event(Event(type, **{**given, **fields}))


def test_an_event_is_a_dict_with_its_type_and_moment() -> None:
    event = Event("task-sent", {"uuid": "a"}, name="add")

    assert event["type"] == "task-sent"
    assert (event["uuid"], event["name"]) == ("a", "add")
    assert abs(event["timestamp"] - time.time()) < 60
    assert (group_from("task-sent"), group_from("alone")) == ("task", "alone")


def test_the_exchange_is_celerys() -> None:
    class Connection:
        class transport:
            driver_type = "redis"

    assert (get_exchange(Connection).name, get_exchange(Connection).type) == (
        "celeryev",
        "fanout",
    )


def test_a_task_goes_through_its_states() -> None:
    state = State()
    told(state, "task-received", uuid="a", name="add", args="(1,)")
    told(state, "task-started", uuid="a")
    told(state, "task-succeeded", uuid="a", result="2", runtime=0.1)
    task = state.tasks["a"]

    assert (task.state, task.result, task.name) == (states.SUCCESS, "2", "add")
    assert task.ready
    assert task.worker is state.workers["w@here"]
    assert task.info(["result", "eta"]) == {"result": "2"}
    assert (state.event_count, state.task_count) == (3, 1)


def test_an_event_that_comes_late_adds_what_it_knows_and_changes_no_state() -> None:
    state = State()
    told(state, "task-failed", uuid="a", exception="E()")
    told(state, "task-received", uuid="a", name="add", state="nonsense")

    assert (state.tasks["a"].state, state.tasks["a"].name) == (states.FAILURE, "add")


def test_tasks_are_in_the_order_of_the_logical_clock() -> None:
    state = State()
    for clock, uuid in ((3, "c"), (1, "a"), (2, "b"), (4, "a")):
        told(state, "task-received", clock, uuid=uuid, name=f"task-{uuid}")

    assert [uuid for uuid, _ in state.tasks_by_time()] == ["a", "c", "b"]
    assert [uuid for uuid, _ in state.tasks_by_type("task-b")] == ["b"]
    assert [task.uuid for task in state.tasks_by_type["task-c"]] == ["c"]
    assert {uuid for uuid, _ in state.tasks_by_worker("w@here")} == {"a", "b", "c"}
    assert state.task_types() == ["task-a", "task-b", "task-c"]


def test_a_child_finds_its_parent_whichever_came_first() -> None:
    state = State()
    told(state, "task-received", uuid="child", parent_id="parent", root_id="parent")
    told(state, "task-received", uuid="parent")
    told(state, "task-received", uuid="other", parent_id="parent")
    parent = state.tasks["parent"]

    assert {task.uuid for task in parent.children} == {"child", "other"}
    assert state.tasks["child"].parent is state.tasks["child"].root is parent


def test_workers_come_and_go() -> None:
    joined, left = [], []
    state = State(on_node_join=joined.append, on_node_leave=left.append)
    told(state, "worker-online", freq=5, pid=7)
    worker = state.workers["w@here"]

    assert worker.alive
    assert (worker.id, worker.status_string) == ("w@here.7", "ONLINE")
    assert list(state.alive_workers()) == [worker]
    told(state, "worker-offline")
    assert not worker.alive
    assert (joined, left) == ([worker], [worker])
    assert dict(state.workers) == {}


def test_a_worker_that_is_silent_for_two_heartbeats_counts_as_gone() -> None:
    state = State()
    told(state, "worker-heartbeat", freq=5, at=time.time() - 11)

    assert not state.workers["w@here"].alive


def test_a_clock_that_differs_is_warned_of(caplog) -> None:
    Worker("w@here").event("heartbeat", time.time() + 60, time.time())

    assert "Have both machines ask a time server" in caplog.text


def test_only_so_much_is_remembered() -> None:
    state = State(max_tasks_in_memory=2, max_workers_in_memory=1)
    for number in range(20):
        told(state, "task-received", number, uuid=str(number), hostname=f"w{number}")

    assert list(state.tasks) == ["18", "19"]
    assert list(state.workers) == ["w19"]
    assert len(state._taskheap) <= 8


def test_a_picture_can_be_pickled_copied_and_cleared() -> None:
    state = State()
    told(state, "task-received", 1, uuid="a", name="add")
    told(state, "task-succeeded", 2, uuid="b", name="add")

    for other in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        assert [uuid for uuid, _ in other.tasks_by_time()] == ["b", "a"]
        assert len(other.tasks_by_type["add"]) == 2
    state.clear()
    assert set(state.tasks) == {"a"}
    state.clear(ready=False)
    assert set(state.tasks) == set()


def test_a_group_of_events_of_ones_own_has_a_handler() -> None:
    state = State()
    state.handlers["disk"] = lambda subject, event: (subject, event["free"])

    assert told(state, "disk-full", free=0) == (("full", 0), "full")
    assert told(state, "unknown-thing") is None


def test_a_camera_is_shown_the_picture(app) -> None:
    shots = []

    class Camera(Polaroid):
        clear_after = True

        def on_shutter(self, state: Any) -> None:
            shots.append(len(state.tasks))

    state = app.events.State()
    told(state, "task-succeeded", uuid="a")
    Camera(state, app=app, timer=object()).capture()

    assert shots == [1]
    assert not state.tasks


def test_a_camera_takes_pictures_until_it_is_interrupted(app) -> None:
    installed, cancelled = [], []

    class Timer:
        def call_repeatedly(self, seconds: float, function: Any) -> Any:
            installed.append(seconds)
            return _Entry(function, cancelled)

    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    class Camera(Polaroid):
        pass

    class Picture(State):
        event = staticmethod(interrupt)

    app.events.State = Picture
    ended = threading.Event()

    def speak() -> None:
        # Until the receiver that is about to begin has begun.
        with app.events.default_dispatcher() as dispatcher:
            while not ended.wait(0.05):
                dispatcher.send("worker-online")

    speaker = threading.Thread(target=speak)
    with pytest.raises(SystemExit):
        evcam(Camera, freq=7.0, timer=Timer(), app=app, on_ready=speaker.start)
    ended.set()
    speaker.join(30)

    assert installed == [7.0, 3600.0]
    assert len(cancelled) == 2


class _Entry:
    def __init__(self, function: Any, cancelled: list[Any]) -> None:
        self.function = function
        self.cancelled = cancelled

    def __call__(self) -> None:
        self.function()

    def cancel(self) -> None:
        self.cancelled.append(self)


def test_a_task_is_known_by_its_id() -> None:
    assert Task("a") == Task("a", name="other")
    assert len({Task("a"), Task("a"), Task("b")}) == 2
