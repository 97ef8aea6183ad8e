"""Questions about type annotations."""

from __future__ import annotations

import types
import typing
from inspect import isclass
from typing import Any

__all__ = [
    "annotation_is_class",
    "annotation_issubclass",
    "get_optional_arg",
    "is_none_type",
]


def is_none_type(value: Any) -> bool:
    """True for the type of None."""
    return value is types.NoneType


def get_optional_arg(annotation: Any) -> Any:
    """``X`` out of ``Optional[X]`` or ``X | None``; None for any other annotation."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return None
    members = typing.get_args(annotation)
    others = [member for member in members if not is_none_type(member)]
    return others[0] if len(members) == 2 and len(others) == 1 else None


def annotation_is_class(annotation: Any) -> bool:
    """True if ``issubclass`` can be asked about the annotation."""
    # To Python 3.10 `list[str]` is a class.
    return isclass(annotation) and not isinstance(annotation, types.GenericAlias)


def annotation_issubclass(annotation: Any, cls: type) -> bool:
    """True if the annotation is a class that derives from ``cls``."""
    return annotation_is_class(annotation) and issubclass(annotation, cls)
