"""Which result backend a setting names."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.imports import load_extension_class_names, symbol_by_name

__all__ = ["UnknownBackend", "by_name", "by_url"]

logger = logging.getLogger("celery.app.backends")

POSTGRES = "pgtasks.backends.postgres:PostgresBackend"
MEMORY = "pgtasks.backends.memory:MemoryBackend"

BACKEND_ALIASES = {
    "postgresql": POSTGRES,
    "postgres": POSTGRES,
    "db": POSTGRES,
    "database": POSTGRES,
    "memory": MEMORY,
    "disabled": "pgtasks.backends.base:DisabledBackend",
}

#: Where Celery can keep results, and pgtasks need not.
FOREIGN = {
    "amqp": "RabbitMQ",
    "arangodb": "ArangoDB",
    "azureblockblob": "Azure",
    "cache": "memcached",
    "cassandra": "Cassandra",
    "consul": "Consul",
    "cosmosdbsql": "Cosmos DB",
    "couchbase": "Couchbase",
    "couchdb": "CouchDB",
    "dynamodb": "DynamoDB",
    "elasticsearch": "Elasticsearch",
    "file": "files",
    "gs": "Google Cloud Storage",
    "mongodb": "MongoDB",
    "redis": "Redis",
    "rediss": "Redis",
    "riak": "Riak",
    "rpc": "RabbitMQ",
    "s3": "S3",
    "sentinel": "Redis",
}

_told: set[str] = set()


class UnknownBackend(ImproperlyConfigured, ImportError):
    """The setting ``result_backend`` names no backend.

    In Celery that is sometimes the one error of the two, and sometimes the other.
    """


def by_name(
    backend: Any = None,
    loader: Any = None,
    extension_namespace: str = "celery.result_backends",
) -> Any:
    """Answer a backend's class, given by itself, by an alias or by its name.

    A store that Celery would use stands for PostgreSQL here, which is said once: a ported
    program keeps its setting, and finds its results through ``AsyncResult`` as before.

    Args:
        backend: The class or its name; PostgreSQL if None.
        loader: The app's loader, whose configuration may have aliases of its own.
        extension_namespace: Entry points of aliases that packages bring along.

    Raises:
        ImproperlyConfigured: There is no such backend.
    """
    backend = backend or "postgresql"
    own = dict(getattr(loader, "override_backends", None) or {})
    if isinstance(backend, str) and backend not in own:
        if backend in FOREIGN:
            _tell(backend)
            backend = "postgresql"
        elif backend not in BACKEND_ALIASES and not set(".:") & set(backend):
            # Reading every package's metadata takes a while, so it comes last.
            own |= dict(load_extension_class_names(extension_namespace))
    try:
        found = symbol_by_name(backend, {**BACKEND_ALIASES, **own})
    except (ImportError, AttributeError) as error:
        if isinstance(backend, str) and (set(".:") & set(own.get(backend, backend))):
            raise  # a class that cannot be imported; what is missing says more
        raise UnknownBackend(_unknown(backend)) from error
    except ValueError as error:
        raise UnknownBackend(_unknown(backend)) from error
    if isinstance(found, ModuleType):
        raise UnknownBackend(_unknown(backend, " It is a module, not a class."))
    return found


def by_url(backend: Any = None, loader: Any = None) -> tuple[Any, str | None]:
    """Answer a backend's class and its URL, given by either.

    Args:
        backend: A URL, whose scheme is an alias, or what `by_name` takes.
        loader: The app's loader.
    """
    if not (isinstance(backend, str) and "://" in backend):
        return by_name(backend, loader), None
    url = backend
    scheme = url.partition("://")[0]
    if url.startswith(("cache+memory:", "memory:")):
        return by_name("memory", loader), url
    name, plus, _ = scheme.partition("+")
    return by_name(name, loader), url.partition("+")[2] if plus else url


def _tell(backend: str) -> None:
    if backend not in _told:
        _told.add(backend)
        logger.warning(
            "result_backend names %s; pgtasks keeps results in PostgreSQL, beside the "
            "jobs, and does not use it. Remove the setting to silence this.",
            FOREIGN[backend],
        )


def _unknown(backend: Any, hint: str = "") -> str:
    from difflib import get_close_matches

    near = get_close_matches(str(backend), [*BACKEND_ALIASES, *FOREIGN], 1)
    hint = hint or (f" Did you mean {near[0]!r}?" if near else "")
    return (
        f"Unknown result backend: {backend!r}.{hint} Remove result_backend to keep results "
        f"in PostgreSQL, or use 'cache+memory://' or 'disabled://'."
    )
