"""Whether two ways to name a database lead to the same one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

__all__ = ["same_place"]

_LOOPBACK = {"127.0.0.1": "localhost", "::1": "localhost"}
#: Where libpq looks for a socket, by how it was built.
_SOCKETS = ("/var/run/postgresql", "/run/postgresql", "/tmp")  # noqa: S108 - as it is


def same_place(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether libpq would come to the same database by both.

    By their words only, asking nobody: what is said in two ways, such as by a name and an
    address, or past and through a pooler, counts as two databases.

    Args:
        one: ``host``, ``port``, ``dbname``, ``service``, ``user``; what is missing has
            libpq's default.
        other: The same of the other.
    """
    return _named(one) == _named(other)


def _named(given: Mapping[str, Any]) -> tuple[str, str, str, str]:
    def say(name: str, variable: str, otherwise: str = "") -> str:
        return str(given.get(name) or os.environ.get(variable) or otherwise)

    service = say("service", "PGSERVICE")
    user = say("user", "PGUSER")
    host = say("host", "PGHOST") or str(given.get("hostaddr") or "")
    host = host.rstrip("/").lower() if not host.startswith("/") else host.rstrip("/")
    if host in _SOCKETS:
        host = ""
    # Of a service the file knows more than we do.
    port = say("port", "PGPORT", "" if service else "5432")
    database = say("dbname", "PGDATABASE", "" if service else user)
    return _LOOPBACK.get(host, host), port, database, service
