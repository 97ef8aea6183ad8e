"""Groups: tasks that run at the same time, with one result for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableSequence
from typing import TYPE_CHECKING, Any

from pgtasks import canvas as package
from pgtasks._state import current_app
from pgtasks.app import modes
from pgtasks.app.batch import follow
from pgtasks.canvas.basics import item, sent_together
from pgtasks.canvas.chord_bodies import size_of
from pgtasks.canvas.members import _maybe_group, flattened
from pgtasks.canvas.signature import Signature, as_signature, maybe_signature
from pgtasks.result import GroupResult
from pgtasks.utils.abstract import CallableSignature
from pgtasks.utils.functional import _regen, regen
from pgtasks.utils.text import remove_repeating_from_task

if TYPE_CHECKING:
    from typing_extensions import Self

    from pgtasks.canvas.stamping import StampingVisitor

__all__ = ["_maybe_group", "group"]


@Signature.register_type()
class group(Signature[Any]):
    """Tasks that run at the same time: ``group(add.s(2, 2), add.s(4, 4))``.

    Args:
        *tasks: Signatures, or one iterable of them, which is drawn from when the group is
            called.
        **options: Options of all members.
    """

    tasks = item("kwargs", "tasks", doc="The members.")

    #: Results of the members where they are copies that have been frozen already: the
    #: next call sends those very members.
    _sends: list[Any] | None = None

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """Make a group of a dict that was one."""
        tasks = d["kwargs"]["tasks"]
        # Those who hold the dict's keyword arguments find the signatures in there.
        members = (maybe_signature(task, app=app) for task in tasks)
        d["kwargs"]["tasks"] = rebuilt = type(tasks)(members)
        return cls(rebuilt, app=app, **d["options"])

    def __init__(self, *tasks: Any, **options: Any) -> None:
        given: Any = tasks
        if len(tasks) == 1:
            given = tasks[0]
            if isinstance(given, group):
                given = given.tasks
            elif isinstance(given, (Signature, CallableSignature)):
                given = [given.clone()]
            elif isinstance(given, Mapping):
                given = [as_signature(given, options.get("app"))]
            elif hasattr(given, "apply_async"):  # A task; told when it is sent.
                given = [given]
            given = regen(given)
        super().__init__("celery.group", (), {"tasks": given}, **options)
        self.subtask_type = "group"

    # ── calling ─────────────────────────────────────────────────────────────────────────

    def __call__(self, *partial_args: Any, **options: Any) -> Any:
        """Send the members."""
        return self.apply_async(partial_args, **options)

    def apply_async(  # type: ignore[override]
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        add_to_parent: bool = True,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> GroupResult:
        """Send the members, all of them or none.

        Args:
            args: Arguments that go in front of those of each member.
            kwargs: Keyword arguments for each member.
            add_to_parent: Make the result a child of the task that runs here.
            producer: Celery's, unused.
            link: Not for groups: a chord is what follows all members.
            link_error: Not for groups; `link_error` links it to the members.
            **options: Options for each member.

        Returns:
            A `GroupResult` with the results of the members, in order.
        """
        if link is not None:
            raise TypeError(
                "Cannot add link to group: use a chord, group(…) | callback, to have "
                "something called after all members."
            )
        if link_error is not None:
            raise TypeError(
                "Cannot add link to group: do that on individual tasks, or on all of them "
                "with group.link_error(errback)."
            )
        app = self.app
        if modes.is_eager(app):
            return self.apply(args, kwargs, **options)  # type: ignore[no-any-return]
        if not self.tasks:
            return self.freeze()  # type: ignore[no-any-return]
        options, group_id, root_id = self._freeze_gid(options)
        frozen = self.__dict__.pop("_sends", None)
        if frozen is None:
            members = self._prepared(self.tasks, (), group_id, root_id, app)
        else:
            members = ((task, frozen[at], group_id) for at, task in enumerate(self.tasks))
        with sent_together(app):
            results = list(
                self._apply_tasks(
                    members, producer, app, args=args, kwargs=kwargs, **options
                )
            )
        result: GroupResult = app.GroupResult(group_id, results)
        if len(results) == 1 and isinstance(results[0], GroupResult):
            # One chain that ends in a group: its result is the group's.
            result = results[0]
        if add_to_parent:
            parent = app.current_worker_task
            if parent:
                parent.add_trail(result)
        return result

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run the members here, one after the other."""
        if not self.tasks:
            return self.freeze()
        app = self.app
        options, group_id, root_id = self._freeze_gid(options)
        # Not frozen: results that listen to a backend are of no use here.
        members = self._prepared(self.tasks, (), group_id, root_id, app, freeze=False)
        return app.GroupResult(
            group_id,
            [task.apply(args=args, kwargs=kwargs, **options) for task, _, _ in members],
        )

    def _freeze_gid(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], str, Any]:
        """The group's options with those of the call, its id, and that of the root.

        The id of the group is its ``task_id``, which must not become that of its members.
        """
        own = self["options"]
        merged = {**own, **options}
        for key in self._IMMUTABLE_OPTIONS:
            if key in own:
                merged[key] = own[key]
        group_id = merged.pop("task_id", None) or package.uuid()
        merged["group_id"] = group_id
        return merged, group_id, merged.get("root_id")

    def _prepared(
        self,
        tasks: Iterable[Any],
        partial_args: Iterable[Any],
        group_id: str,
        root_id: str | None,
        app: Any,
        *,
        freeze: bool = True,
    ) -> Iterator[tuple[Any, Any, str]]:
        """Copies of the members, those of groups among them too, each with its result."""
        for index, task in enumerate(flattened(tasks, app, bind=False)):
            if partial_args and not task.immutable:
                task.args = (*partial_args, *task.args)
            result = None
            if freeze:
                result = task.freeze(group_id=group_id, root_id=root_id, group_index=index)
            yield task, result, group_id

    def _apply_tasks(
        self,
        tasks: Iterable[tuple[Any, Any, str]],
        producer: Any = None,
        app: Any = None,
        p: Any = None,
        add_to_parent: bool | None = None,
        chord: Any = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        group_index: int | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Send the members, and yield their results.

        Those in the header of a chord are counted first, by what they stand for.
        """
        members = list(tasks)
        if any(chord or task["options"].get("chord") for task, _, _ in members[-1:]):
            size = sum(size_of(task) for task, _, _ in members)
            (app or self.app).backend.set_chord_size(members[-1][2], size)
        if producer is not None:
            options["producer"] = producer
        for task, result, _ in members:
            body = chord if chord is not None else task["options"].get("chord")
            sent = task.apply_async(
                args=args, kwargs=kwargs, add_to_parent=False, chord=body, **options
            )
            follow(app or self.app, sent, result)
            yield result

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
        """Give every member its id, and return the `GroupResult` that they will have."""
        return self.app.GroupResult(
            *self._freeze_group_tasks(
                _id=_id,
                group_id=group_id,
                chord=chord,
                root_id=root_id,
                parent_id=parent_id,
                group_index=group_index,
            )
        )

    _freeze = freeze

    def _freeze_group_tasks(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> tuple[str, list[Any]]:
        """Give every member its id; the group's id, and the members' results.

        The members are copies afterwards, and those of groups among them are members of
        this one. The id is the group's own: ``_id`` is for a single task, and
        ``group_id`` names the group that this one belongs to.
        """
        options = self["options"]
        own_id = options.get("task_id")
        if not own_id:
            own_id = options["task_id"] = package.uuid()
        if group_id:
            options["group_id"] = group_id
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        root_id = options.get("root_id") or root_id
        parent_id = options.get("parent_id") or parent_id
        options["root_id"], options["parent_id"] = root_id, parent_id
        tasks = self.tasks
        members = list(flattened(tasks, self._app))
        results = [
            task.freeze(
                group_id=group_id,
                chord=chord,
                root_id=root_id,
                parent_id=parent_id,
                group_index=index,
            )
            for index, task in enumerate(members)
        ]
        if isinstance(tasks, MutableSequence) and not isinstance(tasks, _regen):
            tasks[:] = members
        else:
            self.tasks = members
        return own_id, results

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,
        **headers: Any,
    ) -> Self:
        """Put stamps on every member."""
        from pgtasks.canvas import stamping

        stamping.stamp_group(self, visitor, append_stamps, headers)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Have the members take no further arguments, or take them again."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, sig: Any) -> Any:
        """Have a copy of ``sig`` sent when the first member has succeeded.

        It gets no result, for the first member knows nothing of the others; to have all
        results, make a chord: ``group(…) | callback``.
        """
        return self.tasks[0].link(sig.clone().set(immutable=True))

    def link_error(self, sig: Any) -> Any:
        """Have ``sig`` called when a member has failed, for each that has.

        Returns:
            The copies that were linked, one for each member.
        """
        errback = maybe_signature(sig)
        return tuple(task.link_error(errback.clone()) for task in self.tasks)

    def skew(
        self, start: float = 1.0, stop: float | None = None, step: float = 1.0
    ) -> Self:
        """Spread the members over time: a countdown for each, in seconds.

        Args:
            start: Countdown of the first.
            stop: Longest countdown, which the others have when it is reached.
            step: How much later each one is.
        """
        countdown = start
        for task in self.tasks:
            task.set(countdown=countdown)
            if stop is None or countdown + step <= stop:
                countdown += step
        return self

    # ── combining and showing ───────────────────────────────────────────────────────────

    def __or__(self, other: Any) -> Any:
        """``group | b``: call ``b`` with the list of all results, as a chord."""
        if isinstance(other, group):
            tasks = other.tasks
            # Whether a generator has anything in it is not known yet.
            if isinstance(tasks, (list, tuple)) and not (
                isinstance(tasks, _regen) or tasks
            ):
                return self
        elif not isinstance(other, (Signature, CallableSignature)):
            return self._cannot_be_combined(other)
        return package.chord(self, body=other, app=self._app)

    @property
    def app(self) -> Any:
        """The app that sends it; that of its first member, unless it has its own."""
        app = self._app
        if app is None:
            try:
                app = self.tasks[0].app
            except (LookupError, AttributeError):
                pass  # Empty, or the first member is a dict still.
        return current_app if app is None else app

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        if self.tasks:
            return remove_repeating_from_task(
                self.tasks[0]["task"], f"group({self.tasks!r})"
            )
        return "group(<empty>)"
