"""What applications do in a process that was forked from theirs."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["register_after_fork"]

_to_call: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = (
    weakref.WeakKeyDictionary()
)


def _call() -> None:
    for obj, function in list(_to_call.items()):
        function(obj)


def _register(obj: Any, function: Callable[[Any], None]) -> None:
    _to_call[obj] = function


#: Has ``function(obj)`` called in forked processes while ``obj`` lives; None where there
#: are no forks.
register_after_fork: Callable[[Any, Callable[[Any], None]], None] | None = None

if hasattr(os, "register_at_fork"):
    # Once: what is registered there cannot be taken back.
    os.register_at_fork(after_in_child=_call)
    register_after_fork = _register
