"""What a callable takes, told from its code and never by evaluating annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

__all__ = [
    "argument",
    "arity_greater",
    "fun_accepts_kwargs",
    "fun_takes_argument",
    "head_from_fun",
]


def head_from_fun(fun: Callable[..., Any], bound: bool = False) -> Callable[..., Any]:
    """A function with the parameters of ``fun`` and nothing to do.

    Calling it checks arguments at the speed of a call, which is what ``delay()``
    does before it sends a task. ``bound`` supplies the first argument.
    """
    python = _python_function(fun)
    name = getattr(python if inspect.isroutine(fun) else type(fun), "__name__", "task")
    # Defaults are placeholders: only their presence counts.
    head = eval(f"lambda {_parameters(fun)}: 1", {"__name__": fun.__module__})  # noqa: S307
    head.__name__ = head.__qualname__ = name
    return partial(head, object()) if bound else head


def arity_greater(fun: Callable[..., Any], n: int) -> bool:
    """True when ``fun`` takes more than ``n`` positional arguments."""
    spec = _spec(fun)
    return bool(spec.varargs) or len(spec.positional) > n


def fun_takes_argument(
    name: str, fun: Callable[..., Any], position: int | None = None
) -> bool:
    """True when ``fun`` takes an argument of that name, or that many (``position``)."""
    spec = _spec(fun)
    if spec.varargs or spec.varkw:
        return True
    return len(spec.positional) >= position if position else name in spec.positional


def fun_accepts_kwargs(fun: Callable[..., Any]) -> bool:
    """True when ``fun`` takes any keyword argument (``**kwargs``)."""
    return bool(_spec(fun).varkw)


def argument(
    fun: Callable[..., Any],
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    method: bool = False,
) -> Any:
    """What a call of ``fun`` gives for the parameter ``name``; its default if nothing.

    ``method`` leaves out the first parameter, which no caller gives.

    Raises:
        TypeError: There is no such parameter, or nothing is given for it.
    """
    if name in kwargs:
        return kwargs[name]
    spec = _spec(fun)
    if name in spec.positional:
        place = spec.positional.index(name) - method
        if 0 <= place < len(args):
            return args[place]
    function = _python_function(fun)
    optional = spec.positional[len(spec.positional) - spec.optional :]
    defaults = {
        **dict(zip(optional, getattr(function, "__defaults__", None) or (), strict=False)),
        **(getattr(function, "__kwdefaults__", None) or {}),
    }
    if name in defaults:
        return defaults[name]
    raise TypeError(
        f"A call of {getattr(fun, '__qualname__', fun)} gives nothing for {name!r}, by "
        f"which its limits are kept apart: name a parameter of it."
    )


class _Spec:
    """Names of a callable's parameters, by kind."""

    def __init__(self) -> None:
        self.positional: list[str] = []
        self.positional_only = 0
        self.optional = 0
        self.varargs: str | None = None
        self.keyword_only: dict[str, bool] = {}  # name → has a default
        self.varkw: str | None = None


def _python_function(fun: Any) -> Any:
    """The function behind a method or a callable object, which counts ``self``."""
    if inspect.isroutine(fun) or isinstance(fun, partial):
        return getattr(fun, "__func__", fun)
    call = inspect.getattr_static(type(fun), "__call__", None)
    return call if hasattr(call, "__code__") else fun


def _spec(fun: Callable[..., Any]) -> _Spec:
    function = _python_function(fun)
    if not hasattr(function, "__code__"):
        return _spec_of_signature(function)
    # The code object tells all without evaluating annotations, which from
    # Python 3.14 on may fail for names imported under TYPE_CHECKING (PEP 649),
    # and it is the callable itself, not what functools.wraps says it wraps.
    code, spec = function.__code__, _Spec()
    names = iter(code.co_varnames)
    spec.positional = list(islice(names, code.co_argcount))
    spec.positional_only = code.co_posonlyargcount
    spec.optional = len(function.__defaults__ or ())
    defaults = function.__kwdefaults__ or {}
    keyword_only = islice(names, code.co_kwonlyargcount)
    spec.keyword_only = {name: name in defaults for name in keyword_only}
    spec.varargs = next(names) if code.co_flags & inspect.CO_VARARGS else None
    spec.varkw = next(names) if code.co_flags & inspect.CO_VARKEYWORDS else None
    return spec


def _spec_of_signature(fun: Callable[..., Any]) -> _Spec:
    spec = _Spec()
    for name, parameter in inspect.signature(fun, follow_wrapped=False).parameters.items():
        optional = parameter.default is not parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            spec.varargs = name
        elif parameter.kind is parameter.VAR_KEYWORD:
            spec.varkw = name
        elif parameter.kind is parameter.KEYWORD_ONLY:
            spec.keyword_only[name] = optional
        else:
            spec.positional.append(name)
            spec.optional += optional
            spec.positional_only += parameter.kind is parameter.POSITIONAL_ONLY
    return spec


def _parameters(fun: Callable[..., Any]) -> str:
    """The parameter list of ``fun`` as source, with placeholders for defaults."""
    spec = _spec(fun)
    required = len(spec.positional) - spec.optional
    words = [
        name if index < required else f"{name}=None"
        for index, name in enumerate(spec.positional)
    ]
    if spec.positional_only:
        words.insert(spec.positional_only, "/")
    if spec.varargs:
        words.append(f"*{spec.varargs}")
    elif spec.keyword_only:
        words.append("*")
    words += [f"{name}=None" if opt else name for name, opt in spec.keyword_only.items()]
    if spec.varkw:
        words.append(f"**{spec.varkw}")
    return ", ".join(words)
