"""Lets a program's imports of ``celery`` find pgtasks, for this process: ``--as-celery``."""

from __future__ import annotations

import os

from pgtasks.cli.invocation import Failure

__all__ = ["VARIABLE", "answer_to_celery"]

VARIABLE = "PGTASKS_AS_CELERY"
"""Set to 1 it does the same, also for processes that are started from here."""


def answer_to_celery() -> None:
    """Install the alias; before the application is imported, which is what it is for.

    Raises:
        Failure: The real Celery is there already, or the alias is not.
    """
    try:
        import pgtasks_celery  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise Failure(
            "--as-celery needs the package pgtasks_celery, which comes with pgtasks and is "
            "not there. Install pgtasks anew.",
            2,
        ) from error
    try:
        pgtasks_celery.install()
    except RuntimeError as error:
        raise Failure(str(error), 2) from error
    os.environ[VARIABLE] = "1"
