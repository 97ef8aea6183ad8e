"""Settings and URLs without their secrets, for logs and reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["filter_hidden_settings", "sanitize_url"]

_MASK = "*" * 8

HIDDEN_SETTINGS = re.compile(
    "API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE|BEAT_DBURI",
    re.IGNORECASE,
)

#: URLs and harmless names, which are worth seeing when something does not work.
_URLS = re.compile(
    r"(broker(_read|_write)?|database(_direct)?)_url$|backend", re.IGNORECASE
)
_HARMLESS = {"database_schema", "database_create_tables_at_setup"}


def filter_hidden_settings(conf: Mapping[Any, Any]) -> dict[Any, Any]:
    """Answer settings with what looks like a secret masked, also inside of dicts."""

    def censored(key: Any, value: Any) -> Any:
        if isinstance(value, Mapping):
            return filter_hidden_settings(value)
        if not isinstance(key, str) or key.lower() in _HARMLESS:
            return value
        if _URLS.search(key):
            if isinstance(value, (list, tuple)):
                return [sanitize_url(each) for each in value]
            return sanitize_url(value)
        if HIDDEN_SETTINGS.search(key):
            return _MASK if value else value
        return value

    return {key: censored(key, value) for key, value in conf.items()}


def sanitize_url(url: Any, mask: str = _MASK) -> Any:
    """Answer a URL without its passwords.

    Several servers may stand in one URL, as those of memcached, MongoDB and Sentinel do,
    and a password may hold the signs that separate them. Where that cannot be told apart,
    too much is masked rather than too little.

    Args:
        url: The URL; anything else is answered as it is.
        mask: What to put in place of a password.
    """
    if not url or not isinstance(url, str):
        return url
    try:
        return _sanitized(url, mask)
    except Exception:
        # Whatever has gone wrong here, the URL must not be shown whole.
        text = str.__str__(url)
        if "@" in text and "://" in text:
            return re.sub(r"(://[^:@/]*:)[^@/]*@", rf"\g<1>{mask}@", text)
        return "<unparsable url>"


def _sanitized(url: str, mask: str) -> str:
    if "://" not in url:
        return re.sub(r"(\bpassword\s*=\s*)('[^']*'|\S+)", rf"\g<1>{mask}", url)
    parts = url.split(";")
    if any("://" in part for part in parts[1:]):
        return ";".join(_sanitized(part.strip(), mask) for part in parts)
    scheme, _, rest = url.partition("://")
    if scheme == "azureblockblob":
        return f"{scheme}://{_sanitized_azure(rest, mask)}"
    end = re.search(r"[/?#]|$", rest)
    cut = end.start() if end else len(rest)
    authority, tail = rest[:cut], rest[cut:]
    tail = re.sub(r"([?&](?:ssl)?password=)[^&#]*", rf"\g<1>{mask}", tail)
    return f"{scheme}://{_sanitized_authority(authority, mask)}{tail}"


def _sanitized_authority(authority: str, mask: str) -> str:
    separator = next((sign for sign in ";," if sign in authority), None)
    servers = (
        [s for s in map(str.strip, authority.split(separator)) if s] if separator else []
    )
    if "@" not in authority:
        return separator.join(servers) if separator else authority
    if len(servers) > 1 and all(map(_is_server, servers)):
        assert separator is not None
        return separator.join(_masked_server(server, mask) for server in servers)
    return _masked_server(authority, mask)


def _is_server(text: str) -> bool:
    """Whether this is a server, and not a piece of a password with a separator in it."""
    user, at, _ = text.rpartition("@")
    return ":" in user if at else not text.startswith(":")


def _masked_server(server: str, mask: str) -> str:
    user, at, host = server.rpartition("@")
    if not at:
        return server
    if ":" in user:
        return f"{user.partition(':')[0]}:{mask}@{host}"
    return f"{mask if '@' in user else user}@{host}"


def _sanitized_azure(connection: str, mask: str) -> str:
    # Not a URL but key=value pairs, whose values may hold any sign but a semicolon.
    def pair(text: str) -> str:
        key, equals, value = text.partition("=")
        if equals and key.strip().lower() in ("accountkey", "sharedaccesssignature"):
            return f"{key}={mask}"
        value = re.sub(r"([?&]sig=)[^&;#]*", rf"\g<1>{mask}", value, flags=re.IGNORECASE)
        return f"{key}{equals}{value}"

    return ";".join(map(pair, connection.split(";")))
