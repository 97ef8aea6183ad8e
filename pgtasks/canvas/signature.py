"""A call as a value: a task's name, arguments and options in a dict that can travel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from copy import deepcopy
from functools import cached_property
from functools import partial as bind_arguments
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pgtasks._state import current_app
from pgtasks.utils.functional import maybe_list
from pgtasks.utils.ids import time_ordered_uuid as uuid

if TYPE_CHECKING:
    from typing_extensions import Self

    from pgtasks.result import AsyncResult

__all__ = ["Signature", "maybe_signature", "maybe_subtask", "signature", "subtask"]

R = TypeVar("R")
S = TypeVar("S", bound="type[Signature[Any]]")


def _item(*path: str, doc: str) -> Any:
    """A property that stands for ``self[path[0]][path[1]]…``; absent reads as None."""
    *parents, key = path

    def owner(signature: Signature[Any]) -> dict[str, Any]:
        found: dict[str, Any] = signature
        for parent in parents:
            found = found[parent]
        return found

    def read(signature: Signature[Any]) -> Any:
        return owner(signature).get(key)

    def write(signature: Signature[Any], value: Any) -> None:
        owner(signature)[key] = value

    return property(read, write, doc=doc)


class Signature(dict[str, Any], Generic[R]):
    """One call of a task, not made yet: ``add.s(2, 2)``.

    It may be stored, sent as an argument, linked to another task as its callback, or
    completed with more arguments when it is called. It is a dict of plain values, so
    every serializer can carry it.

    Args:
        task: A task, its name, or a dict that was a signature.
        args: Positional arguments.
        kwargs: Keyword arguments.
        options: Options of `Task.apply_async`.
        type: The task, where ``task`` is only its name.
        subtask_type: Name under which a subclass is registered.
        immutable: Take no further arguments, for instance from a parent's result.
        app: The app that knows the task; the current one by default.
        **ex: More options.
    """

    TYPES: ClassVar[dict[str, type[Signature[Any]]]] = {}

    _app: Any = None
    _type: Any = None
    # Merging must not change these: whoever waits for the group would wait for ever.
    _IMMUTABLE_OPTIONS: ClassVar[set[str]] = {"group_id", "stamped_headers"}

    id = _item("options", "task_id", doc="Id of the task, once the signature is frozen.")
    parent_id = _item("options", "parent_id", doc="Id of the task that sends this one.")
    root_id = _item("options", "root_id", doc="Id of the first task of the work-flow.")
    task = _item("task", doc="Name of the task.")
    args = _item("args", doc="Positional arguments.")
    kwargs = _item("kwargs", doc="Keyword arguments.")
    options = _item("options", doc="Options of `Task.apply_async`.")
    subtask_type = _item("subtask_type", doc="Registered name of the kind of signature.")
    immutable = _item("immutable", doc="Whether further arguments are ignored.")

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[S], S]:
        """Decorate a subclass, so that `from_dict` finds it by its ``subtask_type``."""

        def register(subclass: S) -> S:
            cls.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Signature[Any]:
        """Make a signature of a dict, of the class that its ``subtask_type`` names."""
        kind = d.get("subtask_type")
        if kind:
            target = cls.TYPES[kind]
            if target is not cls:
                return target.from_dict(d, app=app)
        return Signature(d, app=app)

    def __init__(
        self,
        task: Any = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **ex: Any,
    ) -> None:
        self._app = app
        if isinstance(task, Mapping):
            super().__init__(task)
            return
        name = getattr(task, "name", None)
        if name is not None:
            self._type = task
        elif type is not None:
            self._type = type
        super().__init__(
            task=task if name is None else name,
            args=tuple(args or ()),
            kwargs=kwargs or {},
            options=dict(options or {}, **ex),
            subtask_type=subtask_type,
            immutable=immutable,
        )

    # ── calling ─────────────────────────────────────────────────────────────────────────

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> R:
        """Run the task here and now, as a function."""
        args, kwargs, _ = self._merge(partial_args, partial_kwargs, None)
        returned: R = self.type(*args, **kwargs)
        return returned

    def delay(self, *partial_args: Any, **partial_kwargs: Any) -> AsyncResult[R]:
        """Send the task; further arguments go in front of those already here."""
        return self.apply_async(partial_args, partial_kwargs)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send the task with more arguments and options than the signature has.

        An option that is None counts as not given.
        """
        given = {key: value for key, value in options.items() if value is not None}
        merged = self._merge(args, kwargs, given) if args or kwargs or given else None
        args, kwargs, options = merged or (self.args, self.kwargs, self.options)
        result: AsyncResult[R] = self._apply_async(args, kwargs, **options)
        return result

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Run the task here, as a worker would, and return its `EagerResult`."""
        given = {key: value for key, value in options.items() if value is not None}
        args, kwargs, options = self._merge(args, kwargs, given)
        result: AsyncResult[R] = self.type.apply(args, kwargs, **options)
        return result

    def __invert__(self) -> R:
        """``~signature`` sends the task and waits for its result."""
        return self.apply_async().get()

    # ── copies ──────────────────────────────────────────────────────────────────────────

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
        merged = self.options
        if options is not None:
            fixed = self._IMMUTABLE_OPTIONS.union(self.options.get("stamped_headers") or ())
            merged = dict(self.options)
            merged.update(
                (key, value)
                for key, value in options.items()
                if key not in fixed or key not in self.options
            )
        if self.immutable and not force:
            return self.args, self.kwargs, merged
        return (
            (*args, *self.args) if args else self.args,
            {**self.kwargs, **kwargs} if kwargs else self.kwargs,
            merged,
        )

    def clone(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> Self:
        """A copy, with more arguments and options when they are given."""
        more = self._merge(args, kwargs, opts) if args or kwargs or opts else None
        args, kwargs, options = more or (self.args, self.kwargs, self.options)
        copy: Any = Signature.from_dict(
            {
                "task": self.task,
                "args": tuple(args),
                # Its own mapping (celery #10560), yet not a deep copy: chunks and maps
                # keep iterators in there that must not be run.
                "kwargs": dict(kwargs),
                # Deep, or linking a callback to the copy would link it to the original.
                "options": deepcopy(options),
                "subtask_type": self.subtask_type,
                "immutable": self.immutable,
            },
            app=self._app,
        )
        copy._type = self._type
        return copy  # type: ignore[no-any-return]

    partial = clone

    def replace(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """A copy with other arguments or options; those that are None stay."""
        copy = self.clone()
        if args is not None:
            copy.args = args
        if kwargs is not None:
            copy.kwargs = kwargs
        if options is not None:
            copy.options = options
        return copy

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> AsyncResult[R]:
        """Give the task its id before it is sent, and return the result it will have.

        A frozen signature is one run: called twice, it would be the same task twice.
        """
        options = self.options
        task_id = options.get("task_id") or _id or uuid()
        options["task_id"] = task_id
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        if group_id and "group_id" not in options:
            options["group_id"] = group_id
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        result: AsyncResult[R] = self.AsyncResult(task_id)
        return result

    _freeze = freeze

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
        return self._link("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Have ``errback`` called when this task has failed.

        Returns:
            The errback, so that calls can be chained from it.
        """
        return self._link("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """`link_error`, but returns the signature itself."""
        self.link_error(errback)
        return self

    def _link(self, key: str, callback: Any) -> Any:
        if _leads_to(callback, self):
            raise ValueError(
                f"{callback!r} cannot be linked to {self!r}, for it leads back to it: the "
                f"two would call each other for ever. Link a clone() of one of them."
            )
        return self.append_to_list_option(key, callback)

    def _with_list_option(self, key: str) -> MutableSequence[Any]:
        items: Any = self.options.setdefault(key, [])
        if not isinstance(items, MutableSequence):
            items = self.options[key] = [items]
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
        return [
            self,
            *itertools.chain.from_iterable(link.flatten_links() for link in links),
        ]

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

    # ── being a dict that travels ───────────────────────────────────────────────────────

    def __or__(self, other: Any) -> Any:
        # dict would merge the two into one nonsensical call, and does so even if this
        # only answers NotImplemented.
        raise TypeError(
            f"{type(self).__name__!r} and {type(other).__name__!r} cannot be combined with |."
        )

    __ror__ = __ior__ = __or__

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        # Options are changed when a work-flow is prepared, arguments may be iterators.
        copy = dict(self)
        memo[id(self)] = copy
        copy["options"] = deepcopy(self.options, memo)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return signature, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def items(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """Keys as text: some serializers hand them back as bytes."""
        for key, value in super().items():
            yield (key.decode() if isinstance(key, bytes) else key), value  # type: ignore[unreachable]

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as one would write it, with more arguments: ``tasks.add(2, 2)``."""
        args, kwargs, _ = self._merge(args, kwargs, {}, force=True)
        words = [repr(arg) for arg in args]
        words.extend(f"{key}={value!r}" for key, value in kwargs.items())
        return f"{self['task']}({', '.join(words)})"

    def __repr__(self) -> str:
        return self.reprcall()


def _leads_to(start: Any, target: Any) -> bool:
    """Whether following links from ``start`` arrives at the very object ``target``."""
    pending, seen = [start], set()
    while pending:
        link = pending.pop()
        if link is target:
            return True
        if id(link) in seen or not isinstance(link, Mapping):
            continue
        seen.add(id(link))
        options = link.get("options") or {}
        for key in ("link", "link_error"):
            pending.extend(maybe_list(options.get(key)) or ())
    return False


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
    """Make a signature of a task, of a name, or of a dict that was one.

    A signature is copied.
    """
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies, app=kwargs.get("app"))
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """Turn a dict into a signature, leave a signature or None as it is.

    Args:
        d: A signature, a dict that was one, or None.
        app: App to bind it to.
        clone: Copy what is a signature already.
    """
    if d is None:
        return None
    if isinstance(d, Signature):
        if clone:
            d = d.clone()
    elif isinstance(d, Mapping):
        d = signature(d)
    if app is not None:
        d._app = app
    return d


subtask = signature
maybe_subtask = maybe_signature
