"""The results of a group, under the group's id."""

from __future__ import annotations

from typing import Any

from pgtasks import _state
from pgtasks._state import current_app
from pgtasks.result.meta import ResultBase
from pgtasks.result.result_set import ResultSet

__all__ = ["GroupResult", "result_from_tuple"]


class GroupResult(ResultSet):
    """What a group returns when it is called: its members' results and its id.

    Args:
        id: The group's id.
        results: The members' results.
        parent: Result of the task before the group in a chain.
        **kwargs: See `ResultSet`.
    """

    id: str | None = None

    def __init__(
        self,
        id: str | None = None,
        results: list[Any] | None = None,
        parent: ResultBase | None = None,
        **kwargs: Any,
    ) -> None:
        self.id = id
        self.parent = parent
        super().__init__(results if results is not None else [], **kwargs)

    def _on_ready(self) -> None:
        self.backend.remove_pending_result(self)
        super()._on_ready()

    @property
    def children(self) -> list[Any]:
        """The members' results."""
        return self.results

    def save(self, backend: Any = None) -> Any:
        """Store which results belong to the group, for `restore`."""
        return (backend or self.app.backend).save_group(self.id, self)

    def delete(self, backend: Any = None) -> None:
        """Undo `save`."""
        (backend or self.app.backend).delete_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> Any:
        """The group that was saved under ``id``, or None."""
        bound = cls.__dict__.get("app", ResultSet.app)
        app = app or (bound if not isinstance(bound, property) else current_app)
        return (backend or app.backend).restore_group(id)

    def as_tuple(self) -> tuple[Any, ...]:
        """The group as plain values, for `result_from_tuple`."""
        parent: Any = self.parent
        members = [result.as_tuple() for result in self.results]
        return (self.id, parent and parent.as_tuple()), members

    def as_list(self) -> list[str]:
        """The ids of the members, and those of the tasks before the group in a chain."""
        parent: Any = self.parent
        return [*self._task_ids(), *(parent.as_list() if parent is not None else ())]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.__reduce_args__()

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self.results

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return (
                other.id == self.id
                and other.results == self.results
                and other.parent == self.parent
            )
        if isinstance(other, str):
            return other == self.id
        return NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        members = ", ".join(str(each.id) for each in self.results)
        return f"<{type(self).__name__}: {self.id} [{members}]>"


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """Make of ``as_tuple()``'s plain values, which may have been JSON, a result again."""
    if isinstance(r, ResultBase):
        return r
    app = _state.app_or_default(app)
    head, members = r
    id, parent = head if isinstance(head, (list, tuple)) else (head, None)
    if parent:
        parent = result_from_tuple(parent, app)
    if members is not None:
        children = [result_from_tuple(member, app) for member in members]
        return app.GroupResult(id, children, parent=parent)
    return app.AsyncResult(id, parent=parent)
