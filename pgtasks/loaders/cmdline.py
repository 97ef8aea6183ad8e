"""Settings given as text: ``worker.concurrency=10`` on a command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgtasks.app.defaults import NAMESPACES, Option

__all__ = ["parse"]


def parse(
    args: Iterable[str],
    namespace: str | None,
    cast: re.Pattern[str],
    extra_types: Mapping[str, Callable[[str], Any]],
    override_types: Mapping[str, str],
) -> dict[str, Any]:
    """Read settings given as text; see ``BaseLoader.cmdline_config_parser``.

    Raises:
        ValueError: A value is not of its setting's type.
    """
    types = {**Option.typemap, "json": _loads, **extra_types}

    def read(arg: str) -> tuple[str, Any]:
        key, value = arg.split("=", 1)
        key = key.lower().replace(".", "_")
        if key.startswith("_"):
            space, key = (namespace or "").lower(), key[1:]
        else:
            space, _, key = key.partition("_")
        full = f"{space}_{key}" if space else key
        if match := cast.match(value):
            name = override_types.get(match.group(1), match.group(1))
            return full, types[name](value[match.end() :])
        try:
            return full, NAMESPACES[space][key].to_python(value)
        except ValueError as error:
            raise ValueError(f"{full!r}: {error}") from error

    return dict(map(read, args))


def _loads(text: str) -> Any:
    import json

    return json.loads(text)
