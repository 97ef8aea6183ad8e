"""``@app.task(pydantic=True)``: models in and out, checked where the task runs."""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.annotations import (
    annotation_is_class,
    annotation_issubclass,
    get_optional_arg,
)

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = ["ModelTask"]

Args = Any
Kwargs = Any


class ModelTask:
    """A task's function whose parameters may be annotated with pydantic's models.

    Args:
        app: The application; models find it in their validation context.
        fun: The function.
        name: The task's name; in that context too.
        strict: Validate strictly.
        context: What else is in the context.
        dump_kwargs: Arguments of ``model_dump``; ``mode="json"`` unless it says otherwise.

    Raises:
        ImproperlyConfigured: pydantic is not installed.
    """

    def __init__(
        self,
        app: Celery,
        fun: Callable[..., Any],
        name: str,
        strict: bool = False,
        context: Mapping[str, Any] | None = None,
        dump_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            self._base_model = importlib.import_module("pydantic").BaseModel
        except ModuleNotFoundError as error:
            raise ImproperlyConfigured(
                "You need to install pydantic to use pydantic model serialization."
            ) from error
        self.fun = fun
        self._strict = strict
        self._context = {**(context or {}), "celery_app": app, "celery_task_name": name}
        self._dump_kwargs = {"mode": "json", **(dump_kwargs or {})}
        self._signature = inspect.signature(fun)
        self._annotations = self._read_annotations()

    def _read_annotations(self) -> dict[str, Any]:
        raw = {
            name: parameter.annotation
            for name, parameter in self._signature.parameters.items()
        }
        raw["return"] = self._signature.return_annotation
        try:
            return raw | typing.get_type_hints(self.fun)
        except (NameError, AttributeError, TypeError):
            # Names that exist for type checkers only: as written is the best there is.
            return raw

    @property
    def wrapped(self) -> Callable[..., Any]:
        """The function with validation around it."""
        if inspect.iscoroutinefunction(self.fun):

            @functools.wraps(self.fun)
            async def run(*args: Any, **kwargs: Any) -> Any:
                bound = self._bind(args, kwargs)
                return self._dump_result(await self.fun(*bound.args, **bound.kwargs))

        else:

            @functools.wraps(self.fun)
            def run(*args: Any, **kwargs: Any) -> Any:
                bound = self._bind(args, kwargs)
                return self._dump_result(self.fun(*bound.args, **bound.kwargs))

        return run

    def _bind(self, args: Args, kwargs: Kwargs) -> inspect.BoundArguments:
        """Answer the arguments of a run, with models where models are annotated."""
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            model = self._model(name, value)
            if model is not None:
                bound.arguments[name] = self._validate(model, value)
        return bound

    def _model(self, name: str, value: Any) -> Any:
        """Answer the model that an argument is validated with, if it is."""
        annotation = self._annotations[name]
        optional = get_optional_arg(annotation)
        if optional is not None and value is not None:
            annotation = optional
        return annotation if annotation_issubclass(annotation, self._base_model) else None

    def _validate(self, model: Any, value: Any) -> Any:
        return model.model_validate(value, strict=self._strict, context=dict(self._context))

    def _dump_result(self, value: Any) -> Any:
        # Only what the annotation promises: a model that is returned where something
        # else is announced is left to the serializer, which will say so.
        annotation = self._annotations["return"]
        optional = get_optional_arg(annotation)
        annotation = annotation if optional is None else optional
        if (
            isinstance(value, self._base_model)
            and annotation_is_class(annotation)
            and isinstance(value, annotation)
        ):
            return value.model_dump(**self._dump_kwargs)
        return value

    # ── on the side of the caller ───────────────────────────────────────────────────────

    def dump_arguments(
        self, args: Args, kwargs: Kwargs, bound: bool = False
    ) -> tuple[Args, Kwargs]:
        """Dump the models among the arguments of a call.

        Only those that the task gets back as equal models; others are left as they are,
        so that the serializer refuses them rather than losing something.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            bound: The function gets the task itself first.

        Returns:
            The arguments; the very same objects where nothing was dumped.
        """
        given_args, given_kwargs = args or (), kwargs or {}
        if not isinstance(given_args, (list, tuple)) or not isinstance(
            given_kwargs, Mapping
        ):
            return args, kwargs  # to be refused like those of any task
        values = (*given_args, *given_kwargs.values())
        if not any(isinstance(value, self._base_model) for value in values):
            return args, kwargs
        try:
            self._signature.bind(*([None] if bound else []), *given_args, **given_kwargs)
        except TypeError:
            return args, kwargs

        names: list[str | None] = [*self._names("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")]
        names = names[1:] if bound else names
        names += [None] * (len(given_args) - len(names))
        new_args = [self._dump(name, v) for name, v in zip(names, given_args, strict=False)]
        by_name = set(self._names("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY"))
        new_kwargs = {
            key: self._dump(key if key in by_name else None, value)
            for key, value in given_kwargs.items()
        }
        if any(new is not old for new, old in zip(new_args, given_args, strict=True)):
            args = new_args if isinstance(args, list) else tuple(new_args)
        if any(new_kwargs[key] is not value for key, value in given_kwargs.items()):
            kwargs = new_kwargs
        return args, kwargs

    def _names(self, *kinds: str) -> list[str]:
        return [
            name
            for name, parameter in self._signature.parameters.items()
            if parameter.kind.name in kinds
        ]

    def _dump(self, name: str | None, value: Any) -> Any:
        # A model with kombu's __json__ has its own way of being sent.
        if (
            name is None
            or not isinstance(value, self._base_model)
            or hasattr(type(value), "__json__")
        ):
            return value
        model = self._model(name, value)
        if model is None:
            return value
        try:
            dumped = value.model_dump(**self._dump_kwargs)
            # Equality includes the class: a subclass would lose what it adds.
            return dumped if self._validate(model, dumped) == value else value
        except Exception:
            # The user's validators, some of which may only work on a worker.
            return value
