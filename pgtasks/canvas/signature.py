"""A call as a value: a task's name, arguments and options in a dict that can travel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from pgtasks import canvas as package
from pgtasks.canvas.basics import copied_options, leads_back, said
from pgtasks.canvas.parts import Parts
from pgtasks.utils.abstract import CallableSignature

if TYPE_CHECKING:
    from typing_extensions import Self

    from pgtasks.canvas.groups import group
    from pgtasks.result import AsyncResult

__all__ = [
    "Signature",
    "as_signature",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
]

R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S", bound="type[Signature[Any]]")

_NOTHING: dict[str, Any] = {}


class Signature(Parts, Generic[R]):
    """One call of a task, not made yet: ``add.s(2, 2)``.

    It may be stored, sent as an argument, linked to another task as its callback,
    combined with others, or completed with more arguments when it is called. It is a dict
    of plain values, so every serializer can carry it.

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
        if isinstance(task, dict):
            super().__init__(task)
            return
        name = getattr(task, "name", None)
        if name is not None:
            self._type = task
        elif isinstance(task, Mapping):
            super().__init__(task)
            return
        elif type is not None:
            self._type = type
        super().__init__(
            task=task if name is None else name,
            args=tuple(args or ()),
            kwargs=kwargs or {},
            options={**(options or _NOTHING), **ex},
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

        An option that is None counts as not given, but for ``connection``.
        """
        given = said(options)
        if args or kwargs or given:
            args, kwargs, options = self._merge(args, kwargs, given)
        else:
            args, kwargs, options = self["args"], self["kwargs"], self["options"]
        if "link" in options or "link_error" in options:
            self._refuse_circles()
        result: AsyncResult[R] = self._apply_async(args, kwargs, **options)
        return result

    async def adelay(self, *partial_args: Any, **partial_kwargs: Any) -> AsyncResult[R]:
        """`delay` for coroutines."""
        return await self.aapply_async(partial_args, partial_kwargs)

    async def aapply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """`apply_async` for coroutines: the event loop goes on while the rows are written."""
        from pgtasks.app import publish

        async with publish.abatch(self.app):
            return self.apply_async(args, kwargs, **options)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Run the task here, as a worker would, and return its `EagerResult`."""
        given = {key: value for key, value in options.items() if value is not None}
        args, kwargs, options = self._merge(args, kwargs, given)
        self._refuse_circles()
        result: AsyncResult[R] = self.type.apply(args, kwargs, **options)
        return result

    def __invert__(self) -> R:
        """``~signature`` sends the task and waits for its result."""
        return self.apply_async().get()

    def election(self) -> Any:
        """Have the workers elect the one that runs the task, with ``control.election``."""
        task = self.type
        task_id = self.options.get("task_id") or package.uuid()
        properties = task.backend.on_task_call(None, task_id) or {}
        task.app.control.election(
            task_id, "task", self.clone(task_id=task_id, **properties), connection=None
        )
        return task.AsyncResult(task_id)

    def _refuse_circles(self) -> None:
        if leads_back(self):
            raise ValueError(
                f"The links of {self['task']} lead back to it: it would call itself for "
                f"ever. Link a clone() of it instead."
            )

    # ── copies ──────────────────────────────────────────────────────────────────────────

    def clone(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> Self:
        """A copy, with more arguments and options when they are given.

        The mapping of keyword arguments is its own (celery #10560), their values are not
        copied: chunks and maps keep iterators in there that must not be run. Options are
        copied through and through, or linking a callback to the copy would link it to the
        original.
        """
        if args or kwargs or opts:
            args, kwargs, options = self._merge(args, kwargs, opts)
        else:
            args, kwargs, options = self["args"], self["kwargs"], self["options"]
        kind = self.get("subtask_type")
        copy: Any = Signature.__new__(Signature)
        copy.update(self)
        copy["args"] = tuple(args)
        copy["kwargs"] = dict(kwargs)
        copy["options"] = copied_options(options) if options else {}
        if kind:
            copy = Signature.from_dict(copy, app=self._app)
        copy._app = self._app
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

        Args:
            _id: The id, unless it has one already; a new one by default.
            group_id: The group that it is a member of, unless it is one already.
            chord: The body of the chord in whose header it is.
            root_id: Id of the first task of the work-flow.
            parent_id: Id of the task that sends it.
            group_index: Its place in the group.
        """
        options = self["options"]
        task_id = options.get("task_id")
        if not task_id:
            task_id = options["task_id"] = _id or package.uuid()
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        if "reply_to" not in options:
            options["reply_to"] = self.app.thread_oid
        if group_id and "group_id" not in options:
            options["group_id"] = group_id
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        result: AsyncResult[R] = self.AsyncResult(task_id)
        return result

    _freeze = freeze

    # ── combining ───────────────────────────────────────────────────────────────────────

    @overload  # type: ignore[override]
    def __or__(self, other: group) -> Signature[Any]: ...
    @overload
    def __or__(self, other: Signature[T]) -> Signature[T]: ...
    def __or__(self, other: Any) -> Any:
        """``a | b``: call ``b`` with the result of ``a``."""
        if isinstance(other, package.group):
            if package.is_empty_group(other):
                return package._chain(self, app=self._app)
            other = package.maybe_unroll_group(other)
        if isinstance(other, package._chain):
            return package._chain((self, *other.unchain_tasks()), app=self._app)
        if isinstance(other, Signature):
            return package._chain(self, other, app=self._app)
        return self._cannot_be_combined(other)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        return self.__or__(other)

    def __ror__(self, other: Any) -> Any:
        return self._cannot_be_combined(other)

    def _cannot_be_combined(self, other: Any) -> Any:
        # dict would merge the two into one nonsensical call, and does so even if this
        # only answers NotImplemented.
        if isinstance(other, Mapping):
            raise TypeError(
                f"{type(self).__name__!r} and {type(other).__name__!r} cannot be combined "
                f"with |. Make a signature of the dict first: signature(…)."
            )
        return NotImplemented

    # ── being a dict that travels ───────────────────────────────────────────────────────

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        # Options are changed when a work-flow is prepared, arguments may be iterators.
        copy = dict(self)
        memo[id(self)] = copy
        copy["options"] = copied_options(self["options"], memo)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return signature, (dict(self),)

    if not TYPE_CHECKING:
        # Every kind, whether it is generic to type checkers or not.
        __class_getitem__ = classmethod(GenericAlias)

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


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
    """Make a signature of a task, of a name, or of a dict that was one.

    A signature is copied.
    """
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, dict) or (
        isinstance(varies, Mapping) and not hasattr(varies, "name")
    ):
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
    if isinstance(d, (Signature, CallableSignature)):
        if clone:
            d = d.clone()
    elif isinstance(d, Mapping):
        d = signature(d, app=app)
    elif isinstance(d, (list, tuple)):
        return d
    if app is not None:
        d._app = app
    return d


def as_signature(task: Any, app: Any = None) -> Any:
    """A member of a work-flow as a signature; one that is one already stays as it is."""
    if isinstance(task, Mapping) and not isinstance(task, Signature):
        return Signature.from_dict(task, app=app)
    return task


subtask = signature
maybe_subtask = maybe_signature
