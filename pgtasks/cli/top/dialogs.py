"""What opens above the screen: a page to read, and a question."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

__all__ = ["HELP", "Page", "Question"]

HELP = """\
 ↑ ↓ Tab     move in a table, go to the next one
 Enter       a job: everything about it, and why it does not run
             a queue, a worker: its jobs only
 1 2 3       jobs that run, fail (in the last hour), wait
 r           retry the chosen job: run it again, or sooner
 k           revoke the chosen job: it does not run, or no longer
 p           pause the chosen queue, or resume it
 /           show only some jobs: a part of the task's name,
             queue:mail  worker:web*  tag:b2b  error:Timeout
 Esc         show all jobs again
 Space       freeze the screen, and go on
 q           end

 A bar in the queues shows which has most waiting; it is yellow where a job
 waits for more than a minute. One in the workers shows how many of their
 places are taken.

 Nothing here needs a worker that answers: it is read from the tables.
"""


class Page(ModalScreen[str]):
    """Something to read; answers the key that it was left by.

    Args:
        title: What stands in its border.
        text: What there is to read.
        keys: Keys that act on it, for the lower border: ``r retry``.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "leave('')", "Close"),
        Binding("r", "leave('r')", "Retry", show=False),
        Binding("k", "leave('k')", "Revoke", show=False),
    ]

    def __init__(self, title: str, text: Text, *, keys: str = "") -> None:
        super().__init__()
        self._heading = title
        self._text = text
        self._keys = keys

    def compose(self) -> ComposeResult:
        """Put it together."""
        with VerticalScroll(id="page") as page:
            page.border_title = Text(self._heading)
            page.border_subtitle = Text(f"{self._keys}  Esc close".strip())
            yield Static(self._text)

    def action_leave(self, key: str) -> None:
        """Close it."""
        self.dismiss(key if self._keys else "")


class Question(ModalScreen[bool]):
    """A question that is answered by yes or no.

    Args:
        question: The question.
        about: What it is about.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, question: str, about: str) -> None:
        super().__init__()
        self._question = question
        self._about = about

    def compose(self) -> ComposeResult:
        """Put it together."""
        with Vertical(id="question") as box:
            box.border_title = Text(self._question)
            yield Static(Text(self._about))
            with Horizontal(id="answers"):
                yield Button("Yes (y)", variant="error", id="yes")
                yield Button("No (n)", variant="default", id="no")

    def on_mount(self) -> None:
        """Let nothing happen by a stray Enter."""
        self.query_one("#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Take the answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Take the answer."""
        self.dismiss(answer)
