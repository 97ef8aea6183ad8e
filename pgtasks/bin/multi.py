"""The command ``multi``, under the path that it has in Celery: ``celery.bin.multi``."""

from __future__ import annotations

import sys

from pgtasks.cli.multi import MultiTool, multi
from pgtasks.cli.multi_talk import USAGE, TermLogger

__all__ = ["USAGE", "MultiTool", "TermLogger", "main", "multi"]


def main() -> None:
    """Run it as a program of its own, by the words of this process."""
    sys.exit(MultiTool().execute_from_commandline(sys.argv))
