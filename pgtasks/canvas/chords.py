"""Chords: a header of tasks that run at the same time, and a body that gets their results."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, MutableSequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pgtasks import canvas as package
from pgtasks.app import modes
from pgtasks.canvas.basics import DELAYS, item, said, sent_together
from pgtasks.canvas.cascades import app_behind, level, send, without_delay
from pgtasks.canvas.chord_bodies import (
    BODY_ONLY,
    _strip_chord_header_links,
    body_options,
    innermost,
    is_plain_chord,
    put_behind,
    size_of,
    with_callbacks,
)
from pgtasks.canvas.folding import append_to_body, is_empty_group, maybe_unroll_group
from pgtasks.canvas.groups import group
from pgtasks.canvas.members import _maybe_group, member_of
from pgtasks.canvas.signature import Signature, as_signature, maybe_signature
from pgtasks.exceptions import CPendingDeprecationWarning
from pgtasks.result import GroupResult, allow_join_result
from pgtasks.utils.functional import _regen
from pgtasks.utils.text import remove_repeating_from_task

if TYPE_CHECKING:
    from typing_extensions import Self

    from pgtasks.canvas.stamping import StampingVisitor
    from pgtasks.result import AsyncResult

__all__ = ["_chord", "chord"]

R = TypeVar("R")

#: Stands for an option that was not given, where None means something.
_UNSAID: Any = type("_Unsaid", (), {"__repr__": lambda self: "<not given>"})()


@Signature.register_type(name="chord")
class _chord(Signature[R], Generic[R]):
    """Tasks that run at the same time, and one that gets the list of their results.

    ``chord([add.s(2, 2), add.s(4, 4)], sum.s())`` is
    ``group(add.s(2, 2), add.s(4, 4)) | sum.s()``.

    Args:
        header: Signatures, or a group or chain of them.
        body: What is called with their results, in the order of the header.
        task: Name of the task; for subclasses.
        args: Arguments that go in front of those of each member.
        kwargs: Keyword arguments for each member, under the key ``kwargs``.
        app: The app that sends it.
        **options: Options of the members and of the body.
    """

    tasks = item("kwargs", "header", doc="Tasks in the header.")
    body = item("kwargs", "body", doc="The body.")

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """Make a chord of a dict that was one."""
        levels = [dict(d)]
        while is_plain_chord(body := levels[-1]["kwargs"].get("body")):
            levels.append(dict(body))
        # From the inside, for they may be as deep as a chain of groups is long.
        made = body
        for fields in reversed(levels):
            (header, _), fields["kwargs"] = cls._unpack_args(**fields["kwargs"])
            made = cls(header, made, app=app, **fields)
        return made

    @staticmethod
    def _unpack_args(header: Any = None, body: Any = None, **kwargs: Any) -> Any:
        return (header, body), kwargs

    def __init__(
        self,
        header: Any,
        body: Signature[R] | Mapping[str, Any] | None = None,
        task: str = "celery.chord",
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Any = None,
        **options: Any,
    ) -> None:
        parts = {
            **(kwargs or {"kwargs": {}}),
            "header": _maybe_group(header, app),
            "body": maybe_signature(body, app=app),
        }
        super().__init__(task, args, parts, app=app, **options)
        self.subtask_type = "chord"

    # ── calling ─────────────────────────────────────────────────────────────────────────

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send the chord, with another body if one is given."""
        return self.apply_async((), {"body": body} if body else {}, **options)

    def apply_async(  # type: ignore[override]
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        publisher: Any = None,
        connection: Any = _UNSAID,
        router: Any = None,
        result_cls: Any = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send the header; the body runs when all members have ended.

        Args:
            args: Arguments that go in front of those of each member.
            kwargs: Keyword arguments for each member; ``body`` replaces the body.
            task_id: Id of the body.
            producer: Celery's, unused.
            publisher: Celery's, unused.
            connection: Connection on which the rows are inserted. None is our own, also
                where they would join a transaction by themselves.
            router: Celery's, unused.
            result_cls: Celery's, unused.
            **options: Options of the members and of the body. ``countdown`` and ``eta``
                put off the header, ``link`` and ``link_error`` are the body's.

        Returns:
            The result of the body; the header's `GroupResult` is its ``parent``.
        """
        args = self.args if self.immutable or not args else (*args, *self.args)
        given = dict(kwargs or {})
        body = given.pop("body", None) or self.body
        given = {**(self.kwargs.get("kwargs") or {}), **given}
        options = {key: value for key, value in options.items() if value is not None}
        delay = {key: options.pop(key) for key in DELAYS if key in options}
        callbacks: dict[str, Any] = {
            key: options.pop(key) for key in ("link", "link_error") if key in options
        }
        body = member_of(body, self._app).clone(**body_options(options))
        app = self._get_app(body)
        if modes.is_eager(app):
            body = with_callbacks(body, {**self.options, **callbacks})
            with allow_join_result():
                result = self.apply(args, given, body=body, task_id=task_id, **options)
            return result  # type: ignore[no-any-return]

        merged = {**self.options, **options, **callbacks}
        for key in DELAYS:
            merged.pop(key, None)
        own_id = merged.pop("task_id", None)
        if delay:
            merged["header_delay"] = delay
        if connection is not _UNSAID:
            merged.update(said({"connection": connection}))
        return self.run(  # type: ignore[no-any-return]
            self._header(app),
            body,
            args,
            task_id=own_id if task_id is None else task_id,
            kwargs=given,
            **merged,
        )

    def _header(self, app: Any) -> Any:
        """The header as a group that may be changed."""
        tasks = self.tasks
        if isinstance(tasks, group):
            return tasks.clone()
        if isinstance(tasks, MutableSequence) and not isinstance(tasks, _regen):
            tasks = tasks[:]
        return group(tasks, app=app, task_id=self.options.get("task_id") or package.uuid())

    def run(
        self,
        header: Any,
        body: Any,
        partial_args: Iterable[Any],
        app: Any = None,
        interval: float | None = None,
        countdown: float = 1,
        max_retries: int | None = None,
        eager: bool = False,
        task_id: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        header_delay: Mapping[str, Any] | None = None,
        connection: Any = None,
        **options: Any,
    ) -> Any:
        """Send the header; what `apply_async` does when nothing is eager.

        Args:
            header: The header, a group; its members are replaced by frozen copies.
            body: The body; it is frozen.
            partial_args: Arguments that go in front of those of each member.
            app: The application.
            interval: Celery's, for stores that have to look again and again.
            countdown: Likewise.
            max_retries: Likewise.
            eager: Celery's, unused.
            task_id: Id of the body; a new one by default.
            kwargs: Keyword arguments for each member.
            header_delay: ``countdown`` and ``eta`` of the members.
            connection: Connection on which the rows are inserted, if not on our own.
            **options: Options of the members and of the body.
        """
        app = app or self._get_app(body)
        group_id = header.options.get("task_id") or package.uuid()
        root_id = body.options.get("root_id")
        options, delay = without_delay({**self.options, **options}, header_delay)
        if options:
            body = with_callbacks(body, options)
            body.options.update(body_options(options))
        if isinstance(body, package._chain):
            # Frozen first, the header of each chord in it would hold all that follows.
            body._unroll_chords(app)
        result = body.freeze(task_id or package.uuid(), group_id=group_id, root_id=root_id)
        _strip_chord_header_links(body)

        options.update(delay)
        if connection is not None:
            options["connection"] = connection
        with sent_together(app):
            result.parent = send(
                level(header, body, group_id, root_id, partial_args, kwargs, options),
                app,
                interval=interval,
                countdown=countdown,
                max_retries=max_retries,
            )
        return result

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        task_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Run the members and then the body, here."""
        body = self.body if body is None else body
        tasks = self.tasks
        header = tasks.clone() if isinstance(tasks, group) else group(tasks, app=self.app)
        given = {} if task_id is None or isinstance(body, group) else {"task_id": task_id}
        results: list[Any] = []
        for member in header.apply(args, kwargs).results:
            value = member.get(propagate=propagate)
            # What ends in a group has as many results as that has members.
            results.extend(value if isinstance(member, GroupResult) else [value])
        return body.apply(args=(results,), **given)

    # ── preparing ───────────────────────────────────────────────────────────────────────

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give the members and the body their ids, and return the result of the body."""
        headers: list[Any] = []
        last: Any = self
        while True:
            if not isinstance(last.tasks, group):
                last.tasks = group(last.tasks, app=last.app, task_id=last.id)
            body = last.body
            headers.append(
                last.tasks.freeze(parent_id=parent_id, root_id=root_id, chord=body)
            )
            last.id = last.tasks.id
            if type(body) is not _chord:
                break
            last, parent_id = body, None
        if body is None:
            return None
        result = body.freeze(
            _id, root_id=root_id, chord=chord, group_id=group_id, group_index=group_index
        )
        put_behind(result, *reversed(headers))
        return result

    @classmethod
    def _descend(cls, sig_obj: Any) -> int:
        """How many ends of tasks a member of a header stands for."""
        return size_of(sig_obj)

    def __length_hint__(self) -> int:
        """How many ends of tasks the body waits for."""
        return sum(size_of(task) for task in getattr(self.tasks, "tasks", self.tasks))

    def clone(self, *args: Any, **kwargs: Any) -> Self:
        """A copy, of its body too."""
        copy = super().clone(*args, **kwargs)
        last: Any = copy
        while type(last.body) is _chord:
            # That body's own is copied with the next round.
            inner = Signature.clone(last.body)
            inner._app = inner._app if last._app is None else last._app
            last.body = inner
            last = inner
        last.body = maybe_signature(last.body, app=last._app, clone=True)
        return copy

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,
        **headers: Any,
    ) -> Self:
        """Put stamps on every member, and on the body."""
        from pgtasks.canvas import stamping

        stamping.stamp_chord(self, visitor, append_stamps, headers)
        return self

    def link(self, callback: Any) -> Any:
        """Have ``callback`` sent when the body has succeeded."""
        innermost(self).body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Have ``errback`` called when the body fails, which it also does with the header.

        If the setting ``task_allow_error_cb_on_chord_header`` is on, it is called for each
        member that fails as well.
        """
        errback = maybe_signature(errback)
        to_header = self.app.conf.task_allow_error_cb_on_chord_header
        if not to_header:
            warnings.warn(BODY_ONLY, CPendingDeprecationWarning, stacklevel=2)
        last: Any = self
        while True:
            # A chord in the header that fails fails this one, which calls it: once.
            for task in (
                (getattr(last.tasks, "tasks", last.tasks) or ()) if to_header else ()
            ):
                task.link_error(errback.clone(immutable=True))
            if type(last.body) is not _chord:
                break
            last = last.body
        if last.body is not None:
            last.body.link_error(errback)
        return errback

    def set_immutable(self, immutable: bool) -> None:
        """Have the members take no further arguments, or take them again; not the body."""
        header = self.tasks.tasks if isinstance(self.tasks, group) else self.tasks
        for task in header:
            task.set_immutable(immutable)

    # ── combining and showing ───────────────────────────────────────────────────────────

    def __or__(self, other: Any) -> Any:
        """``chord | b``: call ``b`` with the result of the body."""
        if is_empty_group(other):
            return self
        if isinstance(other, group):
            other = as_signature(maybe_unroll_group(other), self._app)
        if isinstance(other, (group, package._chain)) or not isinstance(other, Signature):
            return super().__or__(other)
        copy = self.clone()
        append_to_body(copy, other)
        return copy

    @cached_property
    def app(self) -> Any:
        """The app that sends it; that of its header or body, unless it has its own."""
        return self._get_app(self.body)

    def _get_app(self, body: Any = None) -> Any:
        return app_behind(self, body)

    def __repr__(self) -> str:
        body = self.body
        if not body:
            return f"<chord without body: {self.tasks!r}>"
        if isinstance(body, package._chain):
            first, *others = body.tasks
            text = f"%({first.reprcall(self.tasks)} | {package._chain(others)!r})"
            return remove_repeating_from_task(first["task"], text)
        return "%" + remove_repeating_from_task(body["task"], body.reprcall(self.tasks))


# Celery's name for it; the other one is for where `chord` is an argument.
chord = _chord
