"""Applications in pickles: what the program has set travels, what it has read does not."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pgtasks.app.sending import Sending

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks.app.base import Celery

__all__ = ["AppPickler", "Pickling"]


class AppPickler:
    """Rebuilds applications whose class has a ``__reduce_args__`` of its own."""

    def __call__(self, cls: type[Celery], *args: Any) -> Celery:
        """Rebuild an application."""
        kwargs = self.build_kwargs(*args)
        app = self.construct(cls, **kwargs)
        self.prepare(app, **kwargs)
        return app

    def prepare(self, app: Celery, **kwargs: Any) -> None:
        """Put the changes into the new application's settings."""
        app.conf.update(kwargs["changes"])

    def build_kwargs(self, *args: Any) -> dict[str, Any]:
        """Answer the arguments of the new application."""
        return self.build_standard_kwargs(*args)

    def build_standard_kwargs(
        self,
        main: Any,
        changes: Any,
        loader: Any,
        backend: Any,
        amqp: Any,
        events: Any,
        log: Any,
        control: Any,
        accept_magic_kwargs: Any,
        config_source: Any = None,
        config_source_silent: bool = False,
    ) -> dict[str, Any]:
        """Answer the arguments by name that Celery pickles by position."""
        return {
            "main": main,
            "changes": changes,
            "loader": loader,
            "backend": backend,
            "amqp": amqp,
            "events": events,
            "log": log,
            "control": control,
            "set_as_current": False,
            "config_source": config_source,
            "config_source_silent": config_source_silent,
        }

    def construct(self, cls: type[Celery], **kwargs: Any) -> Celery:
        """Make the new application."""
        return cls(**kwargs)


class Pickling(Sending):
    """The floor of `Celery` that can be pickled.

    Subclasses say in ``__reduce_keys__`` what else makes them again.
    """

    Pickler = AppPickler

    fixups: Iterable[str]
    _using_v1_reduce: bool

    def _rgetattr(self, path: str) -> Any:
        return attrgetter(path)(self)

    def __reduce__(self) -> Any:
        if self._using_v1_reduce:
            return _unpickle_app, (type(self), self.Pickler, *self.__reduce_args__())
        return _unpickle_app_v2, (type(self), self.__reduce_keys__())

    def __reduce_keys__(self) -> dict[str, Any]:
        """Answer the arguments that make this application again; for subclasses."""
        return {
            "main": self.main,
            "changes": self._changes(),
            "loader": self.loader_cls,
            "backend": self.backend_cls,
            "amqp": self.amqp_cls,
            "events": self.events_cls,
            "log": self.log_cls,
            "control": self.control_cls,
            "fixups": self.fixups,
            "config_source": self._config_source,
            "config_source_silent": self._config_source_silent,
            "task_cls": self.task_cls,
            "namespace": self.namespace,
        }

    def __reduce_args__(self) -> tuple[Any, ...]:
        """Answer them by position, as subclasses written for Celery 3 do."""
        return (
            self.main,
            self._changes() if self.configured else {},
            self.loader_cls,
            self.backend_cls,
            self.amqp_cls,
            self.events_cls,
            self.log_cls,
            self.control_cls,
            False,
            self._config_source,
            self._config_source_silent,
        )


def _unpickle_app(cls: type[Celery], pickler: type[AppPickler], *args: Any) -> Celery:
    return pickler()(cls, *args)


def _unpickle_app_v2(cls: type[Celery], kwargs: dict[str, Any]) -> Celery:
    kwargs["set_as_current"] = False
    return cls(**kwargs)
