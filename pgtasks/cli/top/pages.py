"""Everything about one job, to be read: as ``pgtasks jobs show`` and ``why`` say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from pgtasks.cli.job_page import show_job
from pgtasks.cli.output import Output, clean

if TYPE_CHECKING:
    from pgtasks.app.base import Celery
    from pgtasks.app.job_info import JobInfo

__all__ = ["page_of"]


class _Lines(Output):
    """Keeps what is printed."""

    def __init__(self) -> None:
        super().__init__(color=False)
        self.lines: list[str] = []

    def say(self, text: str = "", *, error: bool = False) -> None:
        """Keep a line."""
        self.lines.append(text)


def page_of(app: Celery, task_id: str) -> tuple[JobInfo, Text]:
    """A job, and all that there is to say about it.

    Raises:
        JobNotFound: There is no such job.
    """
    found = app.jobs.why(task_id)
    text = Text()
    for reason in found.reasons:
        text.append(f"{clean(reason.text)}\n", style="bold")
        if reason.remedy:
            text.append(f"  → {clean(reason.remedy)}\n", style="cyan")
    text.append("\n")
    page = _Lines()
    show_job(page, found.job)
    text.append("\n".join(page.lines))
    return found.job, text
