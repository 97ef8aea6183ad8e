"""Chains: tasks that follow one another, each called with the result of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pgtasks import canvas as package
from pgtasks._state import current_app
from pgtasks.app import modes
from pgtasks.canvas import steps
from pgtasks.canvas.basics import item, sent_together
from pgtasks.canvas.folding import _fold_chain, _merge_chain_step, is_empty_group
from pgtasks.canvas.signature import Signature, as_signature, maybe_signature
from pgtasks.result import EagerResult, allow_join_result
from pgtasks.utils.functional import is_list, maybe_list, regen
from pgtasks.utils.text import remove_repeating_from_task

if TYPE_CHECKING:
    from typing_extensions import Self

    from pgtasks.canvas.stamping import StampingVisitor
    from pgtasks.result import AsyncResult

__all__ = ["_chain", "chain"]

R = TypeVar("R")

#: Ends of a task after which nothing follows; of the eager kind, for workers decide by
#: themselves.
_WITHOUT_RESULT = frozenset({"IGNORED", "REJECTED"})


@Signature.register_type(name="chain")
class _chain(Signature[R], Generic[R]):
    """A chain as it is, without the arithmetic of `chain`.

    Args:
        *tasks: Its tasks, or one iterable of them.
        **options: Options of the first task, but for ``link`` (the last one's),
            ``link_error`` (every one's) and ``task_id`` (the last one's).
    """

    tasks = item("kwargs", "tasks", doc="Tasks in the chain.")

    #: Its steps and results once it is frozen.
    _frozen: tuple[list[Any], list[Any]] | None = None
    _use_link: bool | None = None

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """Make a chain of a dict that was one."""
        tasks = [maybe_signature(task, app=app) for task in d["kwargs"]["tasks"]]
        made = cls(tasks, app=app, **d["options"])
        made["args"] = tuple(d.get("args") or ())
        made["immutable"] = d.get("immutable", False)
        return made

    def __init__(self, *tasks: Any, **options: Any) -> None:
        folded = self.__dict__.pop("_folded", None)
        given: Any = tasks
        if folded is not None:
            given = folded
        elif len(tasks) == 1 and is_list(tasks[0]):
            given = regen(tasks[0])
        super().__init__("celery.chain", (), {"tasks": given}, **options)
        self._use_link = options.get("use_link")
        self.subtask_type = "chain"
        self._frozen = None

    # ── calling ─────────────────────────────────────────────────────────────────────────

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send the chain; None if there is nothing in it."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(  # type: ignore[override]
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send the first task, which brings the others after it.

        Returns:
            The result of the last one; those before it are its ``parent`` and so on.
        """
        app = self.app
        if modes.is_eager(app):
            with allow_join_result():
                result = self.apply(args, kwargs, **options)
        else:
            result = self.run(args, kwargs, app=app, **{**self.options, **options})
        return result  # type: ignore[no-any-return]

    def run(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        group_id: str | None = None,
        chord: Any = None,
        task_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        publisher: Any = None,
        producer: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        app: Any = None,
        group_index: int | None = None,
        use_link: bool | None = None,
        **options: Any,
    ) -> Any:
        """Send the first task; what `apply_async` does when nothing is eager.

        Args:
            args: Arguments for the first task.
            kwargs: Keyword arguments for the first task.
            group_id: Group of the last task.
            chord: Body of the chord in whose header the last task is.
            task_id: Id of the last task.
            link: Callbacks of the last task.
            link_error: Errbacks of every task.
            publisher: Celery's, unused.
            producer: Celery's, unused.
            root_id: Id of the first task of the work-flow.
            parent_id: Id of the task that sends it.
            app: The application.
            group_index: Place of the last task in the group.
            use_link: See `prepare_steps`; the chain's own by default.
            **options: Options of the first task.
        """
        app = app or self.app
        args = self.args if self.immutable or not args else (*args, *self.args)
        # Copies, and the chain keeps no id: called again, it is another run.
        tasks, results = self._prepared(
            args,
            kwargs,
            self.tasks,
            app,
            root_id=root_id,
            last_task_id=task_id,
            group_id=group_id,
            chord=chord,
            group_index=group_index,
            link_error=link_error,
        )
        if not tasks:
            return None
        if link:
            tasks[0].extend_list_option("link", link)
        first = tasks.pop()
        if parent_id is not None:
            options["parent_id"] = parent_id
        if self._links(app):
            options["chain"] = None
        elif options.get("chain"):
            options["chain"] = [*options["chain"], *tasks]
        else:
            options["chain"] = tasks
        with sent_together(app):
            result = first.apply_async(**options)
        # Of a single task it is the real one: a group's tells when its members end.
        return results[0] if tasks else result

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run the tasks here, one after the other."""
        options = {**self.options, **options}
        link, link_error = options.pop("link", None), options.pop("link_error", None)
        for_last: dict[str, Any] = {
            key: options.pop(key)
            for key in ("task_id", "group_id", "group_index", "chord")
            if key in options
        }
        if self.args:
            args = self.args if self.immutable else (*(args or ()), *self.args)
        tasks = [as_signature(task, self._app) for task in self.tasks]
        # Of nothing but empty groups one counts, as in `prepare_steps`.
        tasks = [task for task in tasks if not is_empty_group(task)] or tasks[-1:]
        last: Any = None
        for number, task in enumerate(tasks, 1):
            step = task.clone()
            given = dict(options)
            if number == len(tasks):
                if not isinstance(step, package.group):
                    given.update(for_last)
                _link_to_end(step, link)
            step = _with_errbacks(step, link_error)
            if last is None:
                result = step.apply(args, kwargs, **given)
            else:
                result = step.apply((last.get(),), **given)
            result.parent, last = last, result
            if isinstance(result, EagerResult) and result.state in _WITHOUT_RESULT:
                break
        return last

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
        """Give every task its id, and return the result of the last one."""
        tasks = self.tasks
        if any(not isinstance(task, Signature) for task in tasks):
            # Or the ids would be given to objects that nobody keeps.
            self.tasks = tasks = [as_signature(task, self._app) for task in tasks]
        args = self.args
        _, results = self._frozen = self.prepare_steps(
            args, None, tasks, root_id, parent_id, None, self.app, _id, group_id, chord,
            clone=False, group_index=group_index,
        )  # fmt: skip
        # They are the first task's now, and must not be given to it again.
        self["args"] = ()
        if not results:
            raise ValueError("There is nothing in this chain, so it will have no result.")
        return results[0]

    def prepare_steps(
        self,
        args: Iterable[Any] | None,
        kwargs: Mapping[str, Any] | None,
        tasks: Iterable[Any],
        root_id: str | None = None,
        parent_id: str | None = None,
        link_error: Any = None,
        app: Any = None,
        last_task_id: str | None = None,
        group_id: str | None = None,
        chord_body: Any = None,
        clone: bool = True,
        from_dict: Callable[..., Any] | None = None,
        group_index: int | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """The steps of the chain, frozen, and their results; the last one first.

        See `pgtasks.canvas.steps.prepare_steps`.
        """
        prepared, results = self._prepared(
            args,
            kwargs,
            tasks,
            app or self.app,
            root_id=root_id,
            last_task_id=last_task_id,
            group_id=group_id,
            chord=chord_body,
            group_index=group_index,
            link_error=link_error,
            clone=clone,
        )
        self.id = results[0].id if results else last_task_id
        return prepared, results

    def _prepared(
        self, args: Any, kwargs: Any, tasks: Any, app: Any, **more: Any
    ) -> tuple[list[Any], list[Any]]:
        use_link = self._links(app)
        return steps.prepare_steps(args, kwargs, tasks, app, use_link=use_link, **more)

    def _links(self, app: Any) -> bool:
        """Whether the steps are linked, as Celery's first protocol does."""
        if self._use_link is None:
            return bool(app.conf.task_protocol == 1)
        return self._use_link

    def _unroll_chords(self, app: Any = None) -> None:
        """Make the tails of chords' bodies steps of the chain; of a copy to be sent."""
        app = app or self.app
        if self._links(app):
            # A body that fails has to know the last result itself.
            return
        tasks, args, _ = steps.flat_steps(self.tasks, app, split=True)
        if args:
            tasks[0] = tasks[0].clone(args)
        self.tasks = tasks

    def unchain_tasks(self) -> list[Any]:
        """Copies of the tasks, with the chain's callbacks on the last and its errbacks on each."""
        tasks = [task.clone() for task in self.tasks]
        if tasks:
            for callback in maybe_list(self.options.get("link")) or ():
                tasks[-1].link(callback)
        for errback in maybe_list(self.options.get("link_error")) or ():
            for task in tasks:
                # One for each, so that they can be told apart by stamps.
                task.link_error(maybe_signature(errback, clone=True))
        return tasks

    def clone(self, *args: Any, **kwargs: Any) -> Self:
        """A copy, of its tasks too."""
        copy = super().clone(*args, **kwargs)
        copy.kwargs["tasks"] = [
            maybe_signature(task, app=self._app, clone=True)
            for task in copy.kwargs["tasks"]
        ]
        return copy

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,
        **headers: Any,
    ) -> Self:
        """Put stamps on every task."""
        from pgtasks.canvas import stamping

        stamping.stamp_chain(self, visitor, append_stamps, headers)
        return self

    # ── combining and showing ───────────────────────────────────────────────────────────

    def __or__(self, other: Any) -> Any:
        """``chain | b``: call ``b`` with the result of the last task."""
        if is_empty_group(other):
            return self
        steps = self.unchain_tasks()
        merged = _merge_chain_step(steps, other, clone_other=False)
        if merged is NotImplemented:
            return self._cannot_be_combined(other)
        return type(self)(steps, app=self._app) if merged is steps else merged

    @property
    def app(self) -> Any:
        """The app that sends it; that of its first task, unless it has its own."""
        app = self._app
        if app is None:
            try:
                app = self.tasks[0].app
            except (LookupError, AttributeError):
                pass  # Empty, or the first task is a dict still.
        return current_app if app is None else app

    def __repr__(self) -> str:
        if not self.tasks:
            return f"<{type(self).__name__}@{id(self):#x}: empty>"
        return remove_repeating_from_task(
            self.tasks[0]["task"], " | ".join(repr(task) for task in self.tasks)
        )


class chain(_chain[R], Generic[R]):
    """Tasks that follow one another: ``chain(add.s(2, 2), mul.s(8))``.

    Each is called with the result of the one before it. ``chain(a, b)`` is ``a | b``, and
    may therefore be a group or a chord, if that is what the steps amount to.

    Args:
        *tasks: Signatures, or one iterable of them.
        **options: See `_chain`; with options it is always a chain.
    """

    def __new__(cls, *tasks: Any, **kwargs: Any) -> Any:
        """Combine the tasks."""
        if kwargs or not tasks or (len(tasks) == 1 and not is_list(tasks[0])):
            return super().__new__(cls)
        folded = _fold_chain(tasks[0] if len(tasks) == 1 else tasks)
        if cls is chain or not isinstance(folded, _chain):
            return folded
        made = super().__new__(cls)
        made.__dict__["_folded"] = folded.tasks
        return made


def _link_to_end(step: Any, link: Any) -> None:
    """Add callbacks to the last step, which is a copy and runs here."""
    if not link:
        return
    if isinstance(step, package.chord):
        # Only its body is ever applied.
        step.body.extend_list_option("link", link)
    else:
        step.extend_list_option("link", link)


def _with_errbacks(step: Any, link_error: Any) -> Any:
    for errback in maybe_list(link_error) or ():
        if isinstance(step, package.chord):
            step.body.append_to_list_option("link_error", errback)
        else:
            step.append_to_list_option("link_error", errback)
    return step
