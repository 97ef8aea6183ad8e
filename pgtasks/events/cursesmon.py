"""A screen of the tasks that workers tell of, with keys to look into them and to act."""

from __future__ import annotations

import curses
import logging
import math
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pgtasks import VERSION_BANNER, states
from pgtasks.app import app_or_default
from pgtasks.utils.text import abbr, abbrtask

__all__ = ["CursesMonitor", "evtop"]

logger = logging.getLogger("celery.events")

BORDER = 4
"""Columns that the frame and the space beside it take."""
LEFT = 3
UUID_WIDTH = 36
STATE_WIDTH = 8
TIMESTAMP_WIDTH = 8
MIN_WORKER_WIDTH = 15
MIN_TASK_WIDTH = 16

ABOVE, BELOW = 4, 6
"""Lines above and below the tasks."""

PATIENCE = 2.0
"""Seconds to wait for the replies of workers to a key."""

_GREY, _RED, _GREEN, _MAGENTA, _BLUE, _YELLOW = range(1, 7)
_COLORS = {
    states.SUCCESS: _GREEN,
    states.FAILURE: _RED,
    states.REJECTED: _RED,
    states.REVOKED: _MAGENTA,
    states.STARTED: _YELLOW,
    states.RETRY: _YELLOW,
}


class CursesMonitor:
    """Draws the picture that events add up to, and hears keys.

    Args:
        state: The picture.
        app: The application.
        keymap: Functions by upper-case key, beside or in place of those here.
    """

    keymap: Mapping[str, Callable[[], Any]] = {}
    win: Any = None
    #: Milliseconds for which a key is waited for before the screen is drawn anew.
    screen_delay = 200
    selected_task: str | None = None
    help = "j:down k:up i:info t:traceback r:result c:revoke l:rate limit q:quit"
    greet = f"pgtasks events {VERSION_BANNER}"

    def __init__(
        self, state: Any, app: Any, keymap: Mapping[str, Callable[[], Any]] | None = None
    ) -> None:
        self.state = state
        self.app = app
        self.keymap = {
            "J": self.move_selection_down,
            "K": self.move_selection_up,
            "C": self.revoke_selection,
            "T": self.selection_traceback,
            "R": self.selection_result,
            "I": self.selection_info,
            "L": self.selection_rate_limit,
            "Q": self.quit,
            **(keymap or self.keymap),
        }
        self.keyalias = {
            curses.KEY_DOWN: "J",
            curses.KEY_UP: "K",
            curses.KEY_ENTER: "I",
            10: "I",
        }
        self.lock = threading.RLock()
        self.tasks: list[tuple[str, Any]] = []
        self.ended = threading.Event()
        self._colored = False

    # ── the screen ──────────────────────────────────────────────────────────────────────

    @property
    def screen_width(self) -> int:
        """Columns."""
        return int(self.win.getmaxyx()[1])

    @property
    def screen_height(self) -> int:
        """Lines."""
        return int(self.win.getmaxyx()[0])

    @property
    def display_width(self) -> int:
        """Columns inside of the frame."""
        return self.screen_width - BORDER

    @property
    def display_height(self) -> int:
        """Lines for tasks."""
        return self.screen_height - ABOVE - BELOW

    @property
    def limit(self) -> int:
        """How many tasks are shown."""
        return self.display_height

    def init_screen(self) -> None:
        """Take the terminal over."""
        with self.lock:
            self.win = curses.initscr()
            self._take_keys()
            curses.noecho()
            curses.cbreak()
            try:
                curses.start_color()
                curses.use_default_colors()
                for number, color in (
                    (_GREY, -1),
                    (_RED, curses.COLOR_RED),
                    (_GREEN, curses.COLOR_GREEN),
                    (_MAGENTA, curses.COLOR_MAGENTA),
                    (_BLUE, curses.COLOR_BLUE),
                    (_YELLOW, curses.COLOR_YELLOW),
                ):
                    curses.init_pair(number, color, -1)
                self._colored = True
            except curses.error:
                self._colored = False  # A terminal without colours.

    def _take_keys(self) -> None:
        self.win.keypad(True)
        self.win.timeout(self.screen_delay)

    def resetscreen(self) -> None:
        """Give the terminal back."""
        with self.lock:
            self.win.keypad(False)
            curses.nocbreak()
            curses.echo()
            curses.endwin()

    def _write(self, line: int, column: int, text: Any, attributes: int = 0) -> None:
        """Write as much as there is room for."""
        height, width = self.win.getmaxyx()
        room = width - column - 1
        if 0 <= line < height and room > 0:
            clean = "".join(each if each.isprintable() else " " for each in str(text))
            try:
                self.win.addstr(line, column, clean[:room], attributes)
            except curses.error:
                pass  # The window has just become smaller, or a sign is wider than thought.

    def _color(self, number: int | None) -> int:
        return curses.color_pair(number) if number and self._colored else curses.A_NORMAL

    # ── drawing ─────────────────────────────────────────────────────────────────────────

    def format_row(
        self, uuid: str, task: str, worker: str, timestamp: str, state: str
    ) -> str:
        """A line of the table, as wide as the frame has room for."""
        width = self.display_width
        left = width - 1 - STATE_WIDTH - 1 - TIMESTAMP_WIDTH
        uuid_width = min(UUID_WIDTH, left - 1 - MIN_TASK_WIDTH - 1 - MIN_WORKER_WIDTH)
        left -= uuid_width + 1
        task_width = math.ceil(left / 2)
        worker_width = left - task_width - 1
        cells = (
            abbr(uuid, uuid_width).ljust(uuid_width),
            abbr(worker, worker_width).ljust(worker_width),
            abbrtask(task, task_width).ljust(task_width),
            timestamp.ljust(TIMESTAMP_WIDTH),
            abbr(state, STATE_WIDTH).ljust(STATE_WIDTH),
        )
        return f"{' '.join(cells)} "[:width]

    def draw(self) -> None:
        """Draw all of it."""
        with self.lock:
            win = self.win
            height = self.screen_height
            win.erase()
            if height < ABOVE + BELOW + 1 or self.display_width < 60:
                self._write(0, 0, "This window is too small for the table.")
                win.refresh()
                return
            win.border()
            self._write(1, LEFT, self.greet, curses.A_DIM | self._color(_BLUE))
            head = self.format_row("UUID", "TASK", "WORKER", "TIME", "STATE")
            self._write(3, LEFT, head, curses.A_BOLD | curses.A_UNDERLINE)
            for number, (_, task) in enumerate(self.tasks[: self.display_height]):
                self.display_task_row(ABOVE + number, task)
            win.hline(height - BELOW, LEFT, curses.ACS_HLINE, self.screen_width - BORDER)
            for line, title, text in (
                (height - 5, *self._about_selection()),
                (height - 4, *self._about_workers()),
                (height - 3, "Info: ", self._summary()),
                (height - 2, "Keys: ", self.help),
            ):
                self._write(line, LEFT, title, curses.A_BOLD)
                room = max(4, self.display_width - len(title))
                self._write(line, LEFT + len(title), abbr(text, room))
            win.refresh()

    def display_task_row(self, lineno: int, task: Any) -> None:
        """Draw the line of a task."""
        chosen = task.uuid == self.selected_task
        attributes = curses.A_STANDOUT if chosen else curses.A_NORMAL
        when = datetime.fromtimestamp(task.timestamp or time.time())
        worker = task.worker.hostname if task.worker else "*NONE*"
        line = self.format_row(
            task.uuid, task.name or "?", worker, f"{when:%H:%M:%S}", task.state
        )
        self._write(lineno, LEFT, line, attributes)
        color = _COLORS.get(task.state)
        if color is not None:
            column = LEFT + len(line) - STATE_WIDTH - 1
            shown = abbr(task.state, STATE_WIDTH)
            self._write(lineno, column, shown, self._color(color) | attributes)

    def _about_selection(self) -> tuple[str, str]:
        if self.selected_task is None:
            return "", "No task selected"
        task = self.state.tasks.get(self.selected_task)
        info = {} if task is None else task.info()
        text = " ".join(f"{name}={value}" for name, value in info.items())
        return "Selected: ", text or "nothing else is known of it"

    def _about_workers(self) -> tuple[str, str]:
        names = sorted(worker.hostname for worker in self.state.alive_workers())
        return ("Workers online: ", ", ".join(names)) if names else ("", "No workers yet.")

    def _summary(self) -> str:
        state = self.state
        alive = len(list(state.alive_workers()))
        return (
            f"events: {state.event_count} tasks: {state.task_count} "
            f"workers: {alive}/{len(state.workers)}"
        )

    # ── keys ────────────────────────────────────────────────────────────────────────────

    def nap(self) -> None:
        """Wait a moment for a key, and do what it says."""
        self.handle_keypress()

    def handle_keypress(self) -> None:
        """Do what the next key says, if one comes."""
        code = self.win.getch()
        if code < 0:
            return
        key = self.keyalias.get(code) or (chr(code).upper() if code < 256 else "")
        handler = self.keymap.get(key)
        if handler is not None:
            with self.lock:
                handler()

    def quit(self) -> None:
        """End."""
        self.ended.set()

    def find_position(self) -> int:
        """Which line is chosen."""
        found = (n for n, (uuid, _) in enumerate(self.tasks) if uuid == self.selected_task)
        return next(found, -1)

    def move_selection_up(self) -> None:
        """Choose the line above."""
        self.move_selection(-1)

    def move_selection_down(self) -> None:
        """Choose the line below."""
        self.move_selection(1)

    def move_selection(self, direction: int = 1) -> None:
        """Choose another line.

        Args:
            direction: How far below.
        """
        if self.tasks:
            position = max(0, self.find_position() + direction)
            self.selected_task = self.tasks[min(position, len(self.tasks) - 1)][0]

    def _selection(self) -> Any:
        """The task that is chosen; None, with a beep, if there is none."""
        task = self.selected_task and self.state.tasks.get(self.selected_task)
        if not task:
            curses.beep()
        return task or None

    def selection_info(self) -> None:
        """Show what is known of the task."""
        task = self._selection()
        if task is not None:
            known = task.info(extra=["name", "state", "worker"])
            lines = [f"{name}: {value}" for name, value in known.items()]
            self.alert(lines, f"Task details for {task.uuid}")

    def selection_traceback(self) -> None:
        """Show where it failed."""
        task = self._selection()
        if task is not None and task.traceback:
            self.alert(task.traceback.splitlines(), f"Traceback of {task.uuid}")
        elif task is not None:
            curses.beep()

    def selection_result(self) -> None:
        """Show what it returned, or raised."""
        task = self._selection()
        if task is not None:
            found = task.result if task.result is not None else task.exception
            self.alert([str(found)], f"Result of {task.uuid}")

    def revoke_selection(self) -> None:
        """Revoke it."""
        task = self._selection()
        if task is not None:
            self._command(self.app.control.revoke, task.uuid)

    def selection_rate_limit(self) -> None:
        """Ask for a rate limit, and give it to the task's name."""
        task = self._selection()
        if task is None or not task.name:
            return
        limit = self.readline(f"New rate limit of {task.name}: ").strip()
        if limit:
            self._command(self.app.control.rate_limit, task.name, limit)

    def _command(self, tell: Callable[..., Any], *args: Any) -> None:
        try:
            replies = tell(*args, reply=True, timeout=PATIENCE)
        except Exception as error:
            self.alert([f"It could not be said: {error}"], "Nothing happened")
            return
        self.alert_remote_control_reply(replies)

    def alert_remote_control_reply(self, reply: Any) -> None:
        """Show what the workers answered."""
        lines = [
            f"{host}: {said.get('error') or said.get('ok') or said}"
            for each in reply or ()
            for host, said in each.items()
        ]
        self.alert(lines or ["No worker has answered yet."], "Replies")

    def alert(self, lines: list[str], title: str) -> None:
        """Show some lines until a key is pressed."""
        win = self.win
        win.erase()
        self._write(1, LEFT, title, curses.A_BOLD | curses.A_UNDERLINE)
        width = max(10, self.display_width)
        wrapped = [part for line in lines for part in textwrap.wrap(line, width) or [""]]
        room = self.screen_height - 5
        for number, line in enumerate(wrapped[:room]):
            self._write(3 + number, LEFT, line)
        if len(wrapped) > room:
            self._write(3 + room, LEFT, "[...]")
        self._write(
            self.screen_height - 1, 0, "Press any key to continue...", curses.A_BOLD
        )
        win.refresh()
        win.timeout(-1)
        try:
            win.getch()
        finally:
            self._take_keys()

    def readline(self, question: str) -> str:
        """Ask for a line of text."""
        line = self.screen_height - 2
        self._write(line, LEFT, question.ljust(self.display_width), curses.A_BOLD)
        self.win.timeout(-1)
        curses.echo()
        try:
            column = min(LEFT + len(question), self.screen_width - 12)
            return str(self.win.getstr(line, column, 20).decode(errors="replace"))
        finally:
            curses.noecho()
            self._take_keys()

    # ── the picture ─────────────────────────────────────────────────────────────────────

    @property
    def workers(self) -> list[str]:
        """The names of the workers."""
        return [worker.hostname for worker in self.state.workers.values()]

    def look(self) -> None:
        """Choose the tasks that are shown."""
        self.tasks = list(self.state.tasks_by_time(limit=max(1, self.limit)))


@contextmanager
def capturing(app: Any, state: Any) -> Iterator[Any]:
    """Gather events in a thread; the answer is the receiver.

    Args:
        app: The application.
        state: What they are to add up to.
    """
    receiver = app.events.Receiver(app.connection_for_read(), handlers={"*": state.event})

    def gather() -> None:
        while not receiver.should_stop:
            try:
                receiver.capture()
            except Exception as error:
                logger.debug("While capturing events: %r", error)
                time.sleep(1.0)

    thread = threading.Thread(target=gather, name="pgtasks-events", daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.should_stop = True
        receiver.close()


def evtop(app: Any = None) -> None:
    """Show the screen until it is left, with q or Ctrl-C.

    Args:
        app: The application.
    """
    app = app_or_default(app)
    state = app.events.State()
    display = CursesMonitor(state, app)
    # Before the screen is taken over: what is wrong with the database is to be seen.
    app.connection_for_read().ensure_connection(max_retries=0)
    with capturing(app, state):
        display.init_screen()
        try:
            while not display.ended.is_set():
                state.freeze_while(display.look)
                display.draw()
                display.nap()
        except KeyboardInterrupt:
            pass
        finally:
            display.resetscreen()
