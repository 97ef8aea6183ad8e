"""What a running task can know about itself: ``task.request``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pgtasks.app.embed import Links
from pgtasks.utils.saferepr import saferepr

__all__ = ["Context"]

#: Headers with which RabbitMQ counts dead-lettering. Sent again with a retry, they would
#: make a broker believe that the message goes round in circles (celery #9180).
X_DEATH_HEADERS = frozenset(
    {
        "x-death",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
    }
)

_UNSET = object()

#: Longest ``argsrepr`` that is made here, in characters; as in messages.
_LONGEST_REPR = 1024


#: What stands for the arguments in logs, where the caller has not said it.
_SHOWN = {"argsrepr": "args", "kwargsrepr": "kwargs"}


class Context:
    """The request that a task is working on: a bag of attributes with defaults.

    Anything may be read from it and written to it. What a caller put into
    ``headers=`` is found here twice: under ``headers`` and as attributes.

    Beyond Celery's names it has ``attempt`` (runs so far, this one included),
    ``max_attempts``, ``job_id`` (the row), and ``meta`` and ``tags`` of the call.
    """

    _children: list[Any] | None = None
    _completion: Any = None
    _entered = True
    args: Any = None
    attempt: int | None = None
    callbacks: Any = None
    called_directly: bool = True
    chord: Any = None
    correlation_id: str | None = None
    delivery_info: dict[str, Any] | None = None
    errbacks: Any = None
    eta: str | None = None
    expires: Any = None
    group: str | None = None
    group_index: int | None = None
    headers: dict[str, Any] | None = None
    hostname: str | None = None
    id: Any = None
    ignore_result: bool | None = False
    is_eager: bool = False
    job_id: int | None = None
    kwargs: Any = None
    lang: str | None = "py"
    logfile: str | None = None
    loglevel: int | None = None
    max_attempts: int | None = None
    meta: Mapping[str, Any] = MappingProxyType({})
    origin: str | None = None
    parent_id: str | None = None
    properties: dict[str, Any] | None = None
    replaced_task_nesting: int = 0
    reply_to: str | None = None
    retries: int = 0
    root_id: str | None = None
    shadow: str | None = None
    soft_time_limit: float | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    tags: Sequence[str] = ()
    task: str | None = None
    taskset: str | None = None
    time_limit: float | None = None
    timelimit: Any = None
    utc: bool | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        attributes = self.__dict__
        attributes.update(*args, **kwargs)
        if "timelimit" in attributes:
            self._unpack_timelimit(attributes["timelimit"])
        if "headers" not in attributes:
            self.headers = self._get_custom_headers(attributes)

    def __getattr__(self, name: str) -> Any:
        # Only for what nobody has set.
        if name in _SHOWN:
            value = getattr(self, _SHOWN[name])
            return None if value is None else saferepr(value, _LONGEST_REPR)
        raise AttributeError(
            f"The request has no attribute {name!r}, and the task was sent without a "
            f"header of that name; request.get({name!r}) answers None then.",
            name=name,
            obj=self,
        )

    def _get_custom_headers(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        given = dict(*args, **kwargs)
        return {key: given[key] for key in given if key not in _KNOWN} or None

    def _unpack_timelimit(self, limits: Any) -> None:
        # Celery's order on the wire: hard, then soft.
        if isinstance(limits, (list, tuple)) and len(limits) >= 2:
            self.time_limit, self.soft_time_limit = limits[0], limits[1]
        else:
            self.time_limit = self.soft_time_limit = None

    def update(
        self, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any
    ) -> None:
        """Set attributes in any form that `dict.update` takes.

        A new ``timelimit`` also sets ``time_limit`` and ``soft_time_limit``.
        """
        attributes = self.__dict__
        before = attributes.get("timelimit", _UNSET)
        attributes.update(*args, **kwargs)
        after = attributes.get("timelimit", _UNSET)
        if after is not before:
            self._unpack_timelimit(after)

    def clear(self) -> None:
        """Forget everything: all attributes are at their defaults again."""
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute ``key``, or ``default`` where there is none."""
        return getattr(self, key, default)

    def __repr__(self) -> str:
        return f"<Context: {vars(self)!r}>"

    def as_execution_options(self) -> dict[str, Any]:
        """The options with which `Task.apply_async` would send this request again."""
        hard, soft = self.timelimit or (None, None)
        options = {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "soft_time_limit": soft,
            "time_limit": hard,
            "headers": self._filter_x_death_headers(self.headers),
            "retries": self.retries,
            "reply_to": self.reply_to,
            "replaced_task_nesting": self.replaced_task_nesting,
            "origin": self.origin,
        }
        stamped = self.stamped_headers
        if self.stamps is not None and stamped is not None:
            options["stamped_headers"] = stamped
            # Only declared stamps: an undeclared one could take the name of an option.
            options.update((key, self.stamps[key]) for key in stamped if key in self.stamps)
        return options

    def _filter_x_death_headers(self, headers: dict[str, Any] | None) -> dict[str, Any]:
        return {
            key: (headers or {})[key] for key in headers or () if key not in X_DEATH_HEADERS
        }

    @property
    def chain(self) -> Any:
        """What follows the task: signatures, the next one last; None if nothing does.

        A list that the task may change. It is read from the row when somebody asks.
        """
        found = self.__dict__.get("chain")
        if isinstance(found, Links):
            found = self.__dict__["chain"] = found.read()
        return found

    @chain.setter
    def chain(self, chain: Any) -> None:
        self.__dict__["chain"] = chain

    @property
    def links(self) -> Any:
        """`chain` as it came: `Links` as long as nobody has asked for the list."""
        return self.__dict__.get("chain")

    @property
    def children(self) -> list[Any]:
        """Results of the tasks that this one has sent so far."""
        if self._children is None:
            self._children = []
        return self._children


#: Keys of a request that are Celery's own; anything else is a header of the caller's.
_KNOWN = frozenset(vars(Context)) | {*_SHOWN, "compression"}
