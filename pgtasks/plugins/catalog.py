"""Which plugins a worker runs: those of the house, those of other packages, the user's own.

The setting ``plugins`` maps names to options; False switches one off, or all of them. A
name is one of the house's, one of an entry point in the group ``pgtasks.plugins``, or the
dotted path of a class.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.plugins.base import Plugin, as_age, check_options
from pgtasks.utils.imports import symbol_by_name

__all__ = ["GROUP", "HOUSE", "SERVICES", "Chosen", "choose"]

logger = logging.getLogger("celery.worker")

GROUP = "pgtasks.plugins"

#: Those that are services of each worker, as they wait for more than a timer; by name
#: their options. None leaves an option to the setting of old.
SERVICES: dict[str, dict[str, Any]] = {
    "stager": {"interval": None, "limit": 1000},
    "lifeline": {"interval": None, "max_lost": None},
}

#: Those that run on a timer.
HOUSE = {
    "pruner": "pgtasks.plugins.pruner:Pruner",
    "reindexer": "pgtasks.plugins.reindexer:Reindexer",
    "metrics": "pgtasks.plugins.metrics:Metrics",
    "cron": "pgtasks.plugins.cron:Cron",
}


class Chosen(NamedTuple):
    """What a worker is to do beside running jobs.

    Attributes:
        services: By name, the options of the services that are switched on.
        plugins: Those that run on a timer.
    """

    services: dict[str, dict[str, Any]]
    plugins: list[Plugin]


def choose(app: Any) -> Chosen:
    """Make the plugins that the setting ``plugins`` asks for.

    Raises:
        ImproperlyConfigured: It asks for one that does not exist, or with options that it
            does not have.
    """
    setting = app.conf.plugins
    if setting is False:
        return Chosen({}, [])
    given = _checked(setting)
    found = {point.name: point for point in entry_points(group=GROUP)}
    services = {}
    for name, known in SERVICES.items():
        if given.get(name) is not False:
            services[name] = _service_options(name, known, given.get(name))
    plugins = []
    for name in dict.fromkeys([*HOUSE, *found, *given]):
        if name in SERVICES or given.get(name) is False:
            continue
        if name in HOUSE or name in given:
            plugins.append(_named(app, name, found, given.get(name)))
        elif (plugin := _installed(app, found[name])) is not None:
            plugins.append(plugin)
    return Chosen(services, plugins)


def _checked(setting: Any) -> dict[str, Any]:
    if setting is None or setting is True:
        return {}
    if not isinstance(setting, Mapping):
        raise ImproperlyConfigured(
            f"plugins is {setting!r}: write a dict of names and options, for instance "
            f'{{"pruner": {{"max_age": 3600}}, "reindexer": False}}, or False for none.'
        )
    for name, options in setting.items():
        if not isinstance(name, str) or not (
            options is None or isinstance(options, (bool, Mapping))
        ):
            raise ImproperlyConfigured(
                f"plugins[{name!r}] is {options!r}: write a dict of its options, or False "
                f"to switch it off."
            )
    return dict(setting)


def _service_options(name: str, known: dict[str, Any], given: Any) -> dict[str, Any]:
    options = dict(given) if isinstance(given, Mapping) else {}
    try:
        check_options(name, options, known)
        for option, value in options.items():
            if option == "interval":
                options[option] = as_age(f"plugins[{name!r}]['interval']", value)
            elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"plugins[{name!r}][{option!r}] is {value!r}: give a whole number of "
                    f"at least 1."
                )
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(str(error)) from error
    return {**known, **options}


def _named(app: Any, name: str, found: Mapping[str, EntryPoint], given: Any) -> Plugin:
    """A plugin that the house has, or that the setting names: it must be there."""
    try:
        if name in HOUSE:
            kind = symbol_by_name(HOUSE[name])
        elif name in found:
            kind = found[name].load()
        elif "." in name or ":" in name:
            kind = symbol_by_name(name)
        else:
            near = get_close_matches(name, [*SERVICES, *HOUSE, *found], 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ImproperlyConfigured(
                f"There is no plugin {name!r}.{hint} Write the dotted path of one of your "
                f"own: 'proj.plugins.{name.capitalize()}'."
            )
        return _made(app, name, kind, given)
    except ImproperlyConfigured:
        raise
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(str(error)) from error
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(
            f"The plugin {name!r} of the setting plugins cannot be imported: {error}"
        ) from error


def _installed(app: Any, point: EntryPoint) -> Plugin | None:
    """A plugin of another package: one that is broken does not keep a worker from its jobs."""
    try:
        return _made(app, point.name, point.load(), None)
    except Exception:
        logger.exception(
            "The plugin %r (%s) could not be made, and this worker goes on without it. "
            "Set plugins = {%r: False} to have it left alone.",
            point.name,
            point.value,
            point.name,
        )
        return None


def _made(app: Any, name: str, kind: Any, given: Any) -> Plugin:
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        raise ImproperlyConfigured(
            f"The plugin {name!r} is {kind!r}: it must be a class derived from "
            f"pgtasks.plugins.Plugin."
        )
    options = dict(given) if isinstance(given, Mapping) else {}
    return kind(app, **options)
