"""What a configuration means: which names it uses, which are mistakes, which change nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from pgtasks.app import settings
from pgtasks.app.defaults import (
    _OLD_SETTING_KEYS,
    _TO_NEW_KEY,
    _TO_OLD_KEY,
    DEFAULTS,
    NAMESPACES,
    OPTIONS,
    SETTING_KEYS,
)
from pgtasks.app.setting_names import canonical, with_underscore
from pgtasks.app.settings import Settings
from pgtasks.exceptions import ImproperlyConfigured

__all__ = ["detect_settings", "idle", "tell_of_idle", "warn_of_unknown"]

logger = logging.getLogger("celery.app.settings")


def detect_settings(
    conf: Any,
    preconf: Mapping[str, Any] | None = None,
    ignore_keys: Iterable[str] = (),
    prefix: str | None = None,
) -> Settings:
    """Make settings of a configuration object and of what was set before it was read.

    Args:
        conf: The configuration as a mapping, or None.
        preconf: What the program has set already.
        ignore_keys: Keys of ``preconf`` that the app's own arguments have set.
        prefix: Namespace of the configuration's names.

    Raises:
        ImproperlyConfigured: Old and new names are mixed.
    """
    preconf, prefix = preconf or {}, with_underscore(prefix)
    have = set((preconf if conf is None else conf).keys()) - set(ignore_keys)
    old = have & _OLD_SETTING_KEYS
    if not prefix:
        _refuse_mixture(have & SETTING_KEYS, old)
    warn_of_unknown(have, prefix)
    detected = Settings(
        {canonical(key, prefix): value for key, value in preconf.items()},
        [{} if conf is None else conf, deepcopy(DEFAULTS)],
        prefix=prefix,
        deprecated_settings=old,
    )
    tell_of_idle(detected)
    return detected


def _refuse_mixture(new: set[str], old: set[str]) -> None:
    # A setting given under both names is no mistake: it serves two versions of Celery.
    only_old = {key for key in old if _TO_NEW_KEY[key] not in new}
    only_new = {key for key in new if _TO_OLD_KEY[key] not in old}
    if not (new and old):
        return
    if len(old) > len(new):
        wrong, format, renames = only_new, "old", _TO_OLD_KEY
    else:
        wrong, format, renames = only_old, "new", _TO_NEW_KEY
    if wrong:
        lines = "\n".join(f"{key:<36} -> {renames[key]}" for key in sorted(wrong))
        raise ImproperlyConfigured(
            f"The configuration mixes old and new names of settings. Most are {format} "
            f"ones, so rename the others, or use new names throughout:\n\n{lines}"
        )


def warn_of_unknown(keys: Iterable[str], prefix: str | None) -> None:
    """Warn, once each, of names that look like a misspelt setting."""
    for key in keys:
        if (
            key not in SETTING_KEYS
            and key not in _OLD_SETTING_KEYS
            and key not in settings._told
        ):
            nearest = _nearest(key, prefix)
            if nearest:
                settings._told.add(key)
                logger.warning(
                    "Unknown setting %r: did you mean %r? It is kept, and changes nothing.",
                    key,
                    nearest,
                )


def _nearest(key: str, prefix: str | None) -> str | None:
    """Answer the setting that ``key`` looks like a misspelling of."""
    # A configuration module holds other names too; only what stands in one of our
    # namespaces is worth a second look.
    namespaced = bool(prefix) and key.lower().startswith(str(prefix).lower())
    name, candidates = key, SETTING_KEYS
    if namespaced:
        name = key[len(str(prefix)) :].lower()
        if name in SETTING_KEYS:
            return None
    elif key.isupper():
        if not key.startswith(("CELERY", "BROKER_")):
            return None
        candidates = _OLD_SETTING_KEYS
    elif key.partition("_")[0] not in NAMESPACES or "_" not in key:
        return None
    from difflib import get_close_matches

    found = next(iter(get_close_matches(name, candidates, 1, 0.88)), None)
    if found and namespaced:
        return key[: len(str(prefix))] + (found.upper() if key.isupper() else found)
    return found


# ── what has no effect ──────────────────────────────────────────────────────────────────


def idle(conf: Settings) -> list[str]:
    """Answer the settings that somebody has changed although they change nothing here.

    They are Celery's, and are about a broker or a result store that is not there.
    """
    said = conf.without_defaults()
    return [
        key
        for key, option in OPTIONS.items()
        if option.idle and key in said and said[key] != option.default
    ]


def tell_of_idle(conf: Settings) -> None:
    """Name such settings in the log, each once in a process.

    It waits for somebody who listens: logging may be set up by what is read here, so a
    worker calls this again once it is.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    news = [key for key in idle(conf) if key not in settings._told]
    if news:
        settings._told.update(news)
        logger.info(
            "Understood, and without effect, as there is no broker and no other result "
            "store: %s. See 'Accepted without effect' in the reference of settings.",
            ", ".join(news),
        )
