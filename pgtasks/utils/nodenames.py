"""Names of workers: ``name@host``."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from typing import Any

from pgtasks.utils.text import simple_format

__all__ = [
    "anon_nodename",
    "default_nodename",
    "gethostname",
    "has_process_number",
    "host_format",
    "node_format",
    "nodename",
    "nodesplit",
    "worker_direct",
]

NODENAME_SEP = "@"
NODENAME_DEFAULT = "celery"

#: Name of the queue that only one worker reads.
WORKER_DIRECT_QUEUE_FORMAT = "{hostname}.dq2"
_WORKER_DIRECT_EXCHANGE = "C.dq2"


@lru_cache(maxsize=1)
def gethostname() -> str:
    """This machine's name, asked for once."""
    return socket.gethostname()


def nodename(name: str, hostname: str) -> str:
    """``name@hostname``."""
    return f"{name}{NODENAME_SEP}{hostname}"


def nodesplit(name: str) -> tuple[str | None, str]:
    """Name and host of a node; a text without ``@`` is a host."""
    shortname, found, host = name.partition(NODENAME_SEP)
    return (shortname, host) if found else (None, name)


def default_nodename(hostname: str | None, default_name: str = NODENAME_DEFAULT) -> str:
    """Complete a node's name with ``default_name`` and this machine's name."""
    name, host = nodesplit(hostname or "")
    return nodename(name or default_name, host or gethostname())


def anon_nodename(hostname: str | None = None, prefix: str = "gen") -> str:
    """Name of a process that is not a worker: what jobs give as their ``origin``."""
    return nodename(f"{prefix}{os.getpid()}", hostname or gethostname())


def node_format(s: str, name: str, **extra: Any) -> str:
    """Fill in the abbreviations of `host_format` for a node, and ``%p``, its whole name."""
    shortname, host = nodesplit(name)
    return host_format(s, host, shortname or NODENAME_DEFAULT, p=name, **extra)


def host_format(
    s: str, host: str | None = None, name: str | None = None, **extra: Any
) -> str:
    """Fill in a host's abbreviations.

    ``%h`` is the full host name, ``%n`` the node's name (the host's first label
    by default), ``%d`` the domain, ``%i`` the number of the pool's process (0 in
    the parent) and ``%I`` the same after a dash (nothing in the parent).
    """
    host = host or gethostname()
    label, _, domain = host.partition(".")
    keys: dict[str, Any] = {
        "h": host,
        "n": name or label,
        "d": domain,
        "i": _index,
        "I": _dashed_index,
    }
    return simple_format(s, {**keys, **extra})


def has_process_number(path: str) -> bool:
    """Whether `host_format` gives each of a pool's processes a text of its own."""
    return "%i" in path.lower()


def _index(prefix: str = "", default: str = "0") -> str:
    from pgtasks.utils.log import current_process_index

    index = current_process_index()
    return f"{prefix}{index}" if index else default


def _dashed_index() -> str:
    return _index("-", "")


def worker_direct(hostname: Any) -> Any:
    """The queue that only the worker ``hostname`` reads; a queue is handed back."""
    from kombu.entity import Exchange, Queue

    if isinstance(hostname, Queue):
        return hostname
    name = WORKER_DIRECT_QUEUE_FORMAT.format(hostname=hostname)
    exchange: Any = Exchange(_WORKER_DIRECT_EXCHANGE)
    return Queue(name, exchange, hostname)
