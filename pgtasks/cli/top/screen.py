"""The screen: what it consists of, when it looks, and what its keys do."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.timer import Timer
from textual.widgets import (
    DataTable,
    Footer,
    Input,
    Sparkline,
    Static,
    TabbedContent,
    TabPane,
)

from pgtasks.cli.output import clean
from pgtasks.cli.top.dialogs import HELP, Page, Question
from pgtasks.cli.top.pages import page_of
from pgtasks.cli.top.reading import TABS, Snapshot, read, words_of
from pgtasks.cli.top.rows import JOBS, QUEUES, WORKERS, job_rows, queue_rows, worker_rows
from pgtasks.cli.top.widgets import Rows, Tile
from pgtasks.exceptions import PgtasksError

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.app.job_info import JobInfo

__all__ = ["Top"]

SHORT = 30
"""Lines of a terminal below which the large digits are left out."""

SHARE = 3.0
"""A look that took long is followed by a rest that is so many times as long: whoever watches
a database that has much to do must not add to it."""

HISTORY = 240
"""Looks that the curve goes back."""


class Top(App[None]):
    """Queues, workers and jobs, and keys to act on them.

    Args:
        app: The application.
        interval: Seconds between two looks.
        wanted: The filter to begin with.
        tab: The list of jobs to begin with.
    """

    CSS_PATH = "top.tcss"
    TITLE = "pgtasks top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", show=False),
        Binding("r", "retry", "Retry"),
        Binding("k", "revoke", "Revoke"),
        Binding("p", "pause", "Pause queue"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "clear", "Clear filter", show=False),
        Binding("space", "freeze", "Freeze"),
        Binding("1", "show_tab('running')", "Running", show=False),
        Binding("2", "show_tab('failing')", "Failing", show=False),
        Binding("3", "show_tab('waiting')", "Waiting", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self, app: Celery, *, interval: float = 2.0, wanted: str = "", tab: str = TABS[0]
    ) -> None:
        super().__init__()
        self._watched = app
        self._interval = interval
        self._wanted = wanted
        self._tab = tab
        self._reading = False
        self._again = False
        self._frozen = False
        self._timer: Timer | None = None
        self._jobs: dict[str, JobInfo] = {}
        self._done: deque[float] = deque(maxlen=HISTORY)
        self.snapshot: Snapshot | None = None

    # ── what it consists of ─────────────────────────────────────────────────────────────

    def compose(self) -> ComposeResult:
        """Put it together."""
        with Horizontal(id="bar"):
            yield Static(id="where")
            yield Static(id="when")
        with Horizontal(id="tiles"):
            yield Tile("waiting", id="waiting-tile")
            yield Tile("running", id="running-tile")
            yield Tile("later", id="later-tile")
            yield Tile("discarded/min", id="failing-tile")
            with Vertical(id="rate"):
                yield Static(id="rate-title")
                yield Sparkline([0.0], id="curve")
        with Horizontal(id="upper"):
            yield Rows(*QUEUES, id="queues", title="queues")
            yield Rows(*WORKERS, id="workers", title="workers")
        with TabbedContent(initial=self._tab, id="tabs"):
            for tab in TABS:
                with TabPane(tab.capitalize(), id=tab):
                    yield Rows(*JOBS[tab], id=f"{tab}-jobs")
        yield Input(
            self._wanted,
            placeholder="a part of the task's name, queue:mail, worker:web*, tag:b2b, "
            "error:Timeout",
            id="filter",
        )
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        name = self._watched.main or "default app"
        where = Text.assemble(
            ("pgtasks top", "bold"),
            f"  {clean(name)} on {clean(self._watched.database.endpoint.address)}",
        )
        self.query_one("#where", Static).update(where)
        self._list.focus()
        self.look()

    def on_resize(self, event: Resize) -> None:
        """Leave out what a small terminal has no room for."""
        self.screen.set_class(event.size.height < SHORT, "short")

    @property
    def _list(self) -> Rows:
        return self.query_one(f"#{self._tab}-jobs", Rows)

    # ── looking ─────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        """Read how things stand, and show it; once more if it is being read already."""
        if self._timer is not None:
            self._timer.stop()
        if self._reading:
            self._again = True
            return
        self._reading = True
        self._read(self._tab, self._wanted)

    @work(thread=True)
    def _read(self, tab: str, wanted: str) -> None:
        try:
            found = read(self._watched, tab, wanted)
        except PgtasksError as error:
            self._tell(self._missed, error)
        else:
            self._tell(self._show, found, tab)

    def _tell(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call from a thread; not when the screen is gone."""
        if self.is_running:
            self.call_from_thread(function, *arguments)

    def _rest(self, took: float) -> None:
        self._reading = False
        if self._again:
            self._again = False
            self.look()
        elif not self._frozen:
            self._timer = self.set_timer(max(self._interval, SHARE * took), self.look)

    def _missed(self, error: PgtasksError) -> None:
        """The database does not answer: what was shown last stays, and says so."""
        self._say_when(str(error), style="bold white on dark_red")
        self._rest(0.0)

    def _show(self, snapshot: Snapshot, tab: str) -> None:
        self.snapshot = snapshot
        self._done.append(snapshot.done)
        self._show_numbers(snapshot)
        self.query_one("#queues", Rows).show(queue_rows(snapshot))
        self.query_one("#workers", Rows).show(worker_rows(snapshot))
        if tab == self._tab:
            self._jobs, rows = job_rows(snapshot, tab)
            self._list.show(rows)
        self._say_when()
        self._rest(snapshot.took)

    def _show_numbers(self, snapshot: Snapshot) -> None:
        for name, number in (
            ("waiting", snapshot.waiting),
            ("running", snapshot.running),
            ("later", snapshot.later),
            ("failing", round(60 * snapshot.failing)),
        ):
            self.query_one(f"#{name}-tile", Tile).show(number)
        self.query_one("#failing-tile", Tile).set_class(snapshot.failing > 0, "bad")
        self.query_one("#curve", Sparkline).data = list(self._done)
        title = Text.assemble("ended a second  ", (f"{snapshot.done:,.1f}", "bold"))
        self.query_one("#rate-title", Static).update(title)

    def _say_when(self, text: str | None = None, style: str = "") -> None:
        if text is None:
            shown = self.snapshot
            clock = time.strftime("%H:%M:%S", time.localtime(shown.read_at if shown else 0))
            every = f"every {self._interval:g} s"
            text = f"{'frozen' if self._frozen else every}  {clock}"
            style = "bold black on yellow" if self._frozen else ""
            if self.snapshot is not None and self.snapshot.paused:
                text = f"ALL QUEUES ARE PAUSED  {text}"
                style = "bold black on yellow"
            if self._wanted:
                text = f"filter: {self._wanted}  {text}"
        self.query_one("#when", Static).update(Text(f" {clean(text)} ", style=style))

    # ── keys about the screen ───────────────────────────────────────────────────────────

    def action_freeze(self) -> None:
        """Look no more, or again."""
        self._frozen = not self._frozen
        if self._frozen and self._timer is not None:
            self._timer.stop()
        self._say_when()
        if not self._frozen:
            self.look()

    def action_show_tab(self, tab: str) -> None:
        """Look at another list of jobs."""
        self.query_one("#tabs", TabbedContent).active = tab
        self.query_one(f"#{tab}-jobs", Rows).focus()

    @on(TabbedContent.TabActivated)
    def _tab_chosen(self, event: TabbedContent.TabActivated) -> None:
        self._tab = event.pane.id or TABS[0]
        self._jobs = {}
        self.look()

    def action_filter(self) -> None:
        """Ask which jobs are to be shown."""
        entry = self.query_one("#filter", Input)
        entry.display = True
        entry.focus()

    @on(Input.Submitted, "#filter")
    def _filter_given(self, event: Input.Submitted) -> None:
        try:
            words_of(event.value)
        except ValueError as error:
            self.notify(str(error), severity="error")
            return
        self._filter_by(event.value.strip())

    def action_clear(self) -> None:
        """Show all jobs."""
        self._filter_by("")

    def _filter_by(self, wanted: str) -> None:
        entry = self.query_one("#filter", Input)
        entry.value, entry.display = wanted, False
        self._list.focus()
        if wanted != self._wanted:
            self._wanted = wanted
            self.look()

    def action_help(self) -> None:
        """Explain the keys."""
        self.push_screen(Page("Keys", Text(HELP)))

    # ── keys about what is chosen ───────────────────────────────────────────────────────

    @on(DataTable.RowSelected)
    def _row_chosen(self, event: DataTable.RowSelected) -> None:
        key = event.row_key.value or ""
        if event.data_table.id == "queues":
            self._filter_by(f"queue:{key}")
        elif event.data_table.id == "workers":
            self._filter_by(f"worker:{key.rpartition(' ')[0]}")
        elif key in self._jobs:
            self._open(self._jobs[key].task_id)

    def _chosen_job(self) -> JobInfo | None:
        job = self._jobs.get(self._list.chosen or "")
        if job is None:
            self.notify("There is no job to choose here.", severity="warning")
        return job

    def action_retry(self) -> None:
        """Have the chosen job run again, or sooner."""
        if (job := self._chosen_job()) is not None:
            self._retry(job.task_id, job.task)

    def _retry(self, task_id: str, task: str) -> None:
        self._do(f"Retried {task}.", lambda: self._watched.jobs.retry(task_id))

    def action_revoke(self) -> None:
        """Have the chosen job not run, or run no longer."""
        if (job := self._chosen_job()) is not None:
            self._revoke(job)

    def _revoke(self, job: JobInfo) -> None:
        if job.finished:
            self.notify(f"It is {job.state} already.", severity="warning")
            return
        what = f"{job.task}{job.call}"
        if job.state == "executing":
            what += f"\n\nIt runs on {job.worker}, and is ended there by SIGTERM."

        def go_on(sure: bool | None) -> None:
            if sure:
                cancel = self._watched.jobs.cancel
                self._do(f"Revoked {job.task}.", lambda: cancel(job.task_id))

        self.push_screen(Question("Revoke this job?", clean(what, lines=True)), go_on)

    def action_pause(self) -> None:
        """Pause the chosen queue, or resume it."""
        name = self.query_one("#queues", Rows).chosen
        known = self.snapshot.queues if self.snapshot is not None else []
        queue = next((each for each in known if each.name == name), None)
        if queue is None:
            self.notify("There is no queue to choose.", severity="warning")
            return
        queues, chosen = self._watched.queues, queue.name
        if queue.paused:
            self._do(f"Resumed {chosen}.", lambda: queues.resume(chosen))
        else:
            self._do(f"Paused {chosen}.", lambda: queues.pause(chosen))

    @work(thread=True)
    def _do(self, done: str, function: Callable[[], Any]) -> None:
        """Act on the tables, say that it is done, and look."""
        try:
            function()
        except PgtasksError as error:
            self._tell(self._say, str(error), "error")
        else:
            self._tell(self._say, done, "information")
        self._tell(self.look)

    def _say(self, text: str, severity: Any) -> None:
        self.notify(clean(text), severity=severity, markup=False)

    @work(thread=True)
    def _open(self, task_id: str) -> None:
        """Show everything about a job, and why it does not run."""
        try:
            job, text = page_of(self._watched, task_id)
        except PgtasksError as error:
            self._tell(self._say, str(error), "error")
            return

        def go_on(key: str | None) -> None:
            if key == "r":
                self._retry(job.task_id, job.task)
            elif key == "k":
                self._revoke(job)

        page = Page(f"{clean(job.task)}  {job.state}", text, keys="r retry  k revoke")
        self._tell(self.push_screen, page, go_on)
