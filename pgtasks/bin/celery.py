"""The program itself, under the path that Celery's documentation gives: ``celery.bin.celery``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pgtasks.cli.main import main as run
from pgtasks.cli.main import program as celery

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["celery", "main"]


def main(argv: Sequence[str] | None = None, *, app: Celery | None = None) -> int:
    """Run the program, or what has been put in place of `celery` here; return its exit status.

    Args:
        argv: Its words, without the program's name; those of the process by default.
        app: The application, in place of one that ``-A`` names.
    """
    return run(argv, app=app, group=celery)
