"""What a signature says: its parts as attributes, its options, links and stamps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence
from functools import cached_property
from functools import partial as bind_arguments
from itertools import chain as chained
from typing import TYPE_CHECKING, Any, ClassVar

from pgtasks._state import current_app
from pgtasks.canvas.basics import item
from pgtasks.utils.functional import maybe_list

if TYPE_CHECKING:
    from typing_extensions import Self

    from pgtasks.canvas.stamping import StampingVisitor

__all__ = ["Parts"]


class Parts(dict[str, Any]):
    """The dict that every signature is."""

    _app: Any = None
    _type: Any = None
    # Merging must not change these: whoever waits for the group would wait for ever.
    _IMMUTABLE_OPTIONS: ClassVar[set[str]] = {"group_id", "stamped_headers"}

    id = item("options", "task_id", doc="Id of the task, once the signature is frozen.")
    parent_id = item("options", "parent_id", doc="Id of the task that sends this one.")
    root_id = item("options", "root_id", doc="Id of the first task of the work-flow.")
    task = item("task", doc="Name of the task.")
    args = item("args", doc="Positional arguments.")
    kwargs = item("kwargs", doc="Keyword arguments.")
    options = item("options", doc="Options of `Task.apply_async`.")
    subtask_type = item("subtask_type", doc="Registered name of the kind of signature.")
    immutable = item("immutable", doc="Whether further arguments are ignored.")

    def _merge(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Put ``args`` in front of ours, ``kwargs`` and ``options`` over ours.

        Stamps and the group a signature belongs to stay as they are.
        """
        own = merged = self["options"]
        if options is not None:
            merged = {**own, **options}
            for key in self._IMMUTABLE_OPTIONS:
                if key in own:
                    merged[key] = own[key]
            for key in own.get("stamped_headers") or ():
                if key in own:
                    merged[key] = own[key]
        if not (args or kwargs) or (self.get("immutable") and not force):
            return self["args"], self["kwargs"], merged
        return (
            (*args, *self["args"]) if args else self["args"],
            {**self["kwargs"], **kwargs} if kwargs else self["kwargs"],
            merged,
        )

    # ── options ─────────────────────────────────────────────────────────────────────────

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Set options in place: ``add.s(2, 2).set(countdown=10)``."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Take no further arguments, or take them again."""
        self.immutable = immutable

    def link(self, callback: Any) -> Any:
        """Have ``callback`` sent with the result when this task has succeeded.

        Returns:
            The callback, so that calls can be chained from it.
        """
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Have ``errback`` called when this task has failed.

        Returns:
            The errback, so that calls can be chained from it.
        """
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """`link_error`, but returns the signature itself."""
        self.link_error(errback)
        return self

    def _with_list_option(self, key: str) -> MutableSequence[Any]:
        items: Any = self.options.setdefault(key, [])
        if not isinstance(items, MutableSequence):
            items = self.options[key] = [] if items is None else [items]
        return items  # type: ignore[no-any-return]

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add ``value`` to the list that is option ``key``, unless it is there already."""
        items = self._with_list_option(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add one value, or each of a list, to the list that is option ``key``."""
        self._with_list_option(key).extend(maybe_list(value) or ())

    def flatten_links(self) -> list[Any]:
        """This signature and everything linked to it, however indirectly."""
        links = maybe_list(self.options.get("link")) or ()
        return [self, *chained.from_iterable(link.flatten_links() for link in links)]

    # ── stamps ──────────────────────────────────────────────────────────────────────────

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,
        **headers: Any,
    ) -> Self:
        """Put stamps on this task, its callbacks and errbacks; see `pgtasks.canvas.stamping`.

        Args:
            visitor: Chooses the stamps of each signature.
            append_stamps: A stamp that is there already becomes a list of both; otherwise
                the first one stays.
            **headers: Stamps for all of them.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        sig: Any = self
        found = visitor.on_signature(sig, **headers) if visitor is not None else None
        return self.set(**self._stamp_headers(found, append_stamps, **headers))

    def stamp_links(
        self,
        visitor: StampingVisitor | None,
        append_stamps: bool = False,
        **headers: Any,
    ) -> None:
        """Put stamps on the callbacks and errbacks."""
        from pgtasks.canvas import stamping

        sig: Any = self
        stamping.stamp_links(sig, visitor, append_stamps, headers)

    def _stamp_headers(
        self,
        visitor_headers: Mapping[str, Any] | None = None,
        append_stamps: bool = False,
        self_headers: bool = True,
        **headers: Any,
    ) -> dict[str, Any]:
        """Merge stamps: those given, the visitor's, and those that are here already."""
        from pgtasks.canvas import stamping

        own = self.options if self_headers else None
        return stamping.merged_stamps(headers, visitor_headers, own, append_stamps)

    # ── what it belongs to ──────────────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.task  # type: ignore[no-any-return]

    @cached_property
    def type(self) -> Any:
        """The task itself; NotRegistered where only its name is known."""
        return self._type or self.app.tasks[self["task"]]

    @cached_property
    def app(self) -> Any:
        """The app that sends the task."""
        return self._app or current_app

    @cached_property
    def AsyncResult(self) -> Any:
        """The class of results that the task makes."""
        try:
            return self.type.AsyncResult
        except KeyError:
            return self.app.AsyncResult

    @cached_property
    def _apply_async(self) -> Any:
        try:
            return self.type.apply_async
        except KeyError:
            # Not registered here: whoever runs the worker may know it.
            return bind_arguments(self.app.send_task, self["task"])
