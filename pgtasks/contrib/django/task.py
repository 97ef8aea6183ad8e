"""Tasks that wait for the transaction of the request that sends them."""

from __future__ import annotations

from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import transaction

from pgtasks.app.task import Task

__all__ = ["DjangoTask"]

P = ParamSpec("P")
R = TypeVar("R")


class DjangoTask(Task[P, R]):
    """The base class of tasks in a Django project; an application's fixup sees to that.

    A task that is sent in the middle of a transaction may run before that is committed,
    and not find what it is about, or run although it was rolled back. The two methods
    send it after the commit, and only then; outside of a transaction they send it at once.
    """

    abstract = True

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call `delay` once Django's current transaction is committed.

        There is no result to return: the task has not been sent yet.
        """
        transaction.on_commit(partial(self.delay, *args, **kwargs))

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Call `apply_async` once Django's current transaction is committed.

        There is no result to return: the task has not been sent yet.

        Args:
            *args: As of `apply_async`.
            **kwargs: As of `apply_async`.
        """
        transaction.on_commit(partial(self.apply_async, *args, **kwargs))
