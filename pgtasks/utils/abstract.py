"""What makes an object a task or a signature, for code that must not import either.

``isinstance(obj, CallableSignature)`` holds for whatever has the methods, so that
a canvas takes signatures of another making.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["CallableSignature", "CallableTask"]


class CallableTask(Callable):  # type: ignore[misc,type-arg]
    """Something that can be sent: it has ``delay``, ``apply_async`` and ``apply``."""

    __required_attributes__: ClassVar[frozenset[str]] = frozenset(
        {"delay", "apply_async", "apply"}
    )

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        # Only for the two classes here: what derives from them is an ordinary class.
        required = cls.__dict__.get("__required_attributes__")
        if required is None:
            return NotImplemented
        defined = {name for base in subclass.__mro__ for name in base.__dict__}
        return True if required <= defined else NotImplemented


class CallableSignature(CallableTask):
    """A call to be made, which can be combined with others into a workflow."""

    __required_attributes__ = frozenset(
        {"clone", "freeze", "set", "link", "link_error", "__or__"}
    )
