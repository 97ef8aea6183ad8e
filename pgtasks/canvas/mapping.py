"""Many calls of one task: in one job (`xmap`, `xstarmap`), or in a few (`chunks`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pgtasks.canvas.basics import said
from pgtasks.canvas.groups import group
from pgtasks.canvas.signature import Signature
from pgtasks.utils.functional import chunks as cut
from pgtasks.utils.functional import regen
from pgtasks.utils.text import truncate

__all__ = ["_basemap", "chunks", "task_name_from", "xmap", "xstarmap"]


def task_name_from(task: Any) -> Any:
    """The name of a task or signature, or what is a name already."""
    return getattr(task, "name", task)


class _basemap(Signature[list[Any]]):
    """One job that calls ``task`` for each item of ``it``.

    Args:
        task: A signature of the task.
        it: The items; a generator is drawn from when the job is sent.
        **options: Options of the job.
    """

    _task_name: ClassVar[str] = ""
    _kind: ClassVar[str | None] = None

    @staticmethod
    def _unpack_args(kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
        return kwargs["task"], kwargs["it"]

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """Make one of a dict that was one."""
        return cls(*cls._unpack_args(d["kwargs"]), app=app, **d["options"])

    def __init__(self, task: Any, it: Iterable[Any], **options: Any) -> None:
        if not isinstance(task, (str, Mapping)):
            task = task.s()  # A task cannot travel.
        parts = {"task": task, "it": regen(it)}
        super().__init__(self._task_name, (), parts, immutable=True, **options)
        self.subtask_type = self._kind

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the job, by the route of the task that it calls."""
        _, _, merged = self._merge(options=said(options))
        task, it = self._unpack_args(self.kwargs)
        stored = merged.pop("route_name", None)
        return self.type.apply_async(
            (),
            {"task": task, "it": list(it)},
            route_name=route_name or stored or task_name_from(task),
            **merged,
        )

    def _shown(self, call: str) -> str:
        task, it = self._unpack_args(self.kwargs)
        name = task["task"] if isinstance(task, Mapping) else task_name_from(task)
        return f"[{name}({call}) for x in {truncate(repr(it), 100)}]"


@Signature.register_type()
class xmap(_basemap):
    """One job that calls a task with each item: ``add.map([1, 2])``."""

    _task_name = "celery.map"
    _kind = "xmap"

    def __repr__(self) -> str:
        return self._shown("x")


@Signature.register_type()
class xstarmap(_basemap):
    """One job that calls a task with each item's items: ``add.starmap([(1, 2)])``."""

    _task_name = "celery.starmap"
    _kind = "xstarmap"

    def __repr__(self) -> str:
        return self._shown("*x")


@Signature.register_type()
class chunks(Signature[list[list[Any]]]):
    """A group of jobs that call a task ``n`` times each: ``add.chunks(zip(a, b), 10)``.

    Args:
        task: A signature of the task.
        it: The arguments of each call.
        n: How many calls one job makes.
        **options: Options of the jobs.
    """

    @staticmethod
    def _unpack_args(kwargs: Mapping[str, Any]) -> tuple[Any, Any, int]:
        return kwargs["task"], kwargs["it"], kwargs["n"]

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """Make one of a dict that was one."""
        return cls(*cls._unpack_args(d["kwargs"]), app=app, **d["options"])

    def __init__(self, task: Any, it: Iterable[Any], n: int, **options: Any) -> None:
        parts = {"task": task, "it": regen(it), "n": n}
        super().__init__("celery.chunks", (), parts, immutable=True, **options)

    def __call__(self, **options: Any) -> Any:
        """Send the jobs."""
        return self.apply_async(**options)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Send the jobs, by the route of the task that they call."""
        name = route_name or task_name_from(self.kwargs["task"])
        return self.group().apply_async(
            args or (), kwargs or {}, route_name=name, **options
        )

    def group(self) -> group:
        """The group of jobs, one for each chunk."""
        task, it, n = self._unpack_args(self.kwargs)
        parts = cut(iter(it), n)
        return group((xstarmap(task, part, app=self._app) for part in parts), app=self._app)

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Any = None) -> Any:
        """Send the jobs for ``n`` calls of ``task`` each."""
        return cls(task, it, n, app=app)()
