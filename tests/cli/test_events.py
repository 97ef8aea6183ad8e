"""``pgtasks events``: a line for each event, a screen, and cameras."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import write

from helpers import eventually
from pgtasks import Celery
from pgtasks.storage import events as storage

CAMERA = """
from pathlib import Path

from pgtasks import Celery
from pgtasks.events.snapshot import Polaroid

app = Celery("proj")


class Camera(Polaroid):
    clear_after = True

    def on_shutter(self, state):
        with Path("pictures").open("a") as file:
            for task in state.tasks.values():
                print(task.name, task.state, file=file)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "proj.py", CAMERA)
    return tmp_path


SIZES = ("COLUMNS", "LINES")


@pytest.fixture
def start(folder: Path, database_url: str) -> Iterator[Callable[..., Any]]:
    """Starts the command; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        # What a test before this one has left of a window's size counts more to curses than
        # the window.
        left = {name: value for name, value in os.environ.items() if name not in SIZES}
        process = subprocess.Popen(
            [sys.executable, "-m", "pgtasks", "-A", "proj", "events", *words],
            cwd=folder,
            env={**left, "PGTASKS_DATABASE_URL": database_url, "TERM": "xterm"},
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def listened(app: Celery) -> bool:
    return app.database.run(storage.listened())


def tell_of_a_task(app: Celery, name: str = "shop.ship") -> None:
    with app.events.default_dispatcher(hostname="w@here") as dispatcher:
        given = {"uuid": "an-id", "name": name, "args": "(7,)", "kwargs": "{}"}
        dispatcher.send("worker-heartbeat", freq=2.0)
        dispatcher.send("task-received", **given)
        dispatcher.send("task-succeeded", uuid="an-id", result="'done'", runtime=0.5)


def test_dump_writes_a_line_for_each_event(app: Celery, start: Any, folder: Path) -> None:
    with (folder / "out").open("wb") as out:
        process = start("--dump", stdout=out)
    eventually(lambda: listened(app), 60)
    tell_of_a_task(app)

    def lines() -> list[str]:
        return (folder / "out").read_text().splitlines()

    eventually(lambda: len(lines()) > 3, 60)
    assert lines()[0] == "-> evdump: starting capture..."
    assert re.fullmatch(r"w@here \[[\d :.+-]+\] heartbeat: .*freq=2\.0.*", lines()[1])
    assert " task received: shop.ship(an-id) args=(7,) kwargs={} " in lines()[2]
    assert " task succeeded: shop.ship(an-id) args=(7,) kwargs={} " in lines()[3]
    assert "result='done'" in lines()[3]

    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    # Nothing is kept for one that has left.
    assert not listened(app)


def test_a_camera_is_shown_what_happens(app: Celery, start: Any, folder: Path) -> None:
    process = start("-c", "proj.Camera", "-F", "0.05", "--pidfile", "camera.pid")
    eventually(lambda: listened(app), 60)
    tell_of_a_task(app)
    eventually(lambda: "shop.ship SUCCESS" in _text(folder / "pictures"), 60)

    assert int((folder / "camera.pid").read_text()) == process.pid
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not (folder / "camera.pid").exists()


def test_a_camera_may_run_in_the_background(app: Celery, start: Any, folder: Path) -> None:
    words = ("-c", "proj.Camera", "-F", "0.05", "--detach", "--pidfile", "camera.pid")
    done = start(*words, "--logfile", "camera.log", stderr=subprocess.PIPE)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 0, said
    pid = int((folder / "camera.pid").read_text())
    try:
        assert str(pid) in said.decode()
        eventually(lambda: listened(app), 60)
        tell_of_a_task(app)
        eventually(lambda: "shop.ship SUCCESS" in _text(folder / "pictures"), 60)
    finally:
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), 60)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("-c", "proj.None"), 78, "Name a class as"),
        (("-c", "proj.Camera", "-r", "10/x"), 2, "write it as 10/s"),
        ((), 78, "needs a terminal"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    app: Celery,
    run: Any,
    monkeypatch: Any,
    folder: Path,
    words: Any,
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    done = run("events", *words)

    assert done.exit_code == status
    assert said in done.output


class Screen:
    """A terminal with the screen in it."""

    def __init__(self, start: Any, *, columns: int = 100) -> None:
        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = start(stdin=far, stdout=far, stderr=far, start_new_session=True)
        os.close(far)
        self.seen = b""

    def press(self, keys: str) -> None:
        os.write(self.near, keys.encode())

    def shows(self, text: str) -> None:
        """Wait until it has drawn this since the last time."""
        deadline = time.monotonic() + 60
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, self.seen[-3000:].decode(errors="replace")
            if select.select([self.near], [], [], 0.5)[0]:
                self.seen += os.read(self.near, 65536)
        self.seen = self.seen[self.seen.rindex(text.encode()) + len(text) :]

    def close(self) -> None:
        os.close(self.near)


@pytest.fixture
def screen(start: Any) -> Iterator[Screen]:
    screen = Screen(start)
    yield screen
    screen.close()


def test_the_screen_shows_tasks_and_hears_keys(app: Celery, screen: Screen) -> None:
    screen.shows("No task selected")
    eventually(lambda: listened(app), 60)
    tell_of_a_task(app)
    screen.shows("shop.ship")
    screen.press("j")
    screen.shows("Selected: ")
    screen.press("r")
    screen.shows("Result of an-id")
    screen.shows("'done'")
    screen.press("x")
    screen.shows("UUID")
    screen.press("i")
    screen.shows("Task details for an-id")
    screen.press("x")
    screen.shows("UUID")
    screen.press("q")
    assert screen.process.wait(60) == 0


def test_a_key_tells_workers_something(app: Celery, screen: Screen) -> None:
    screen.shows("No task selected")
    eventually(lambda: listened(app), 60)
    tell_of_a_task(app, name="shop.other")
    screen.shows("shop.other")
    screen.press("j")
    screen.shows("Selected: ")
    screen.press("c")
    # No worker runs here; the word is kept in the database all the same.
    screen.shows("Replies")
    screen.press("x")
    screen.shows("UUID")
    screen.process.send_signal(signal.SIGINT)
    assert screen.process.wait(60) == 0


def test_a_small_window_says_that_it_is_too_small(app: Celery, start: Any) -> None:
    screen = Screen(start, columns=40)
    try:
        screen.shows("This window is too small")
        screen.press("q")
        assert screen.process.wait(60) == 0
    finally:
        screen.close()
