"""Names of settings: today's, those before Celery 4, and those with a namespace."""

from __future__ import annotations

from pgtasks.app.defaults import _TO_NEW_KEY, _TO_OLD_KEY, SETTING_KEYS

__all__ = ["canonical", "names_of", "with_underscore"]


def with_underscore(prefix: str | None) -> str | None:
    """Answer a namespace as names begin with it."""
    return prefix.rstrip("_") + "_" if prefix else None


def canonical(key: str, prefix: str | None) -> str:
    """Answer the name that a setting has today."""
    if prefix and key.lower().startswith(prefix.lower()):
        bare = key[len(prefix) :].lower()
        if bare in SETTING_KEYS:
            return bare
    return _TO_NEW_KEY.get(key, key)


def names_of(key: str, prefix: str | None) -> tuple[str, ...]:
    """Answer the names that a setting may stand under in a layer, best first."""
    known = _known.get((key, prefix))
    if known is None:
        new = canonical(key, prefix)
        names = [new, key, _TO_OLD_KEY.get(new, new)]
        if prefix:
            name = new if new.lower().startswith(prefix.lower()) else prefix + new
            names.insert(0, name.upper() if prefix.isupper() else name.lower())
        known = tuple(dict.fromkeys(names))
        if len(_known) < 5000:  # keys may come from anywhere
            _known[key, prefix] = known
    return known


_known: dict[tuple[str, str | None], tuple[str, ...]] = {}
