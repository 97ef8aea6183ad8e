"""The setting ``task_annotations``: attributes that the configuration gives to tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pgtasks.utils.functional import firstmethod, mlazy
from pgtasks.utils.imports import instantiate

__all__ = ["MapAnnotation", "prepare", "resolve_all"]

_first_match = firstmethod("annotate")
_first_match_any = firstmethod("annotate_any")


class MapAnnotation(dict[str, Any]):
    """Attributes by the name of the task; ``"*"`` is for all."""

    def annotate_any(self) -> dict[str, Any] | None:
        """Answer what every task gets."""
        return dict(self["*"]) if "*" in self else None

    def annotate(self, task: Any) -> dict[str, Any] | None:
        """Answer what ``task`` gets."""
        return dict(self[task.name]) if task.name in self else None


def prepare(annotations: Any) -> Any:
    """Make objects with ``annotate`` and ``annotate_any`` of the setting.

    Args:
        annotations: None, a dict, such an object, the name of its class, or several of
            these.
    """

    def expand(annotation: Any) -> Any:
        if isinstance(annotation, dict):
            return MapAnnotation(annotation)
        if isinstance(annotation, str):
            return mlazy(instantiate, annotation)
        return annotation

    if annotations is None:
        return ()
    if not isinstance(annotations, (list, tuple)):
        annotations = (annotations,)
    return [expand(annotation) for annotation in annotations]


def resolve_all(annotations: Iterable[Any], task: Any) -> Iterator[dict[str, Any]]:
    """Answer what ``task`` gets: what names it, then what is for all."""
    return (
        found
        for found in (_first_match(annotations, task), _first_match_any(annotations))
        if found
    )
