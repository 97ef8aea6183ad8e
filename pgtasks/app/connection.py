"""Which database an application uses, and its connections there."""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

from pgtasks.app.doors import open_door
from pgtasks.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from pgtasks.app.configuring import Configured
    from pgtasks.storage.aio import AsyncDatabase
    from pgtasks.storage.database import Database
    from pgtasks.storage.notifier import Notifier

__all__ = [
    "Connections",
    "database_url",
    "is_postgresql",
    "keeps_jobs_in_memory",
    "runs_high_priority_first",
]

ENVIRONMENT = "PGTASKS_DATABASE_URL"

_WAYS = (
    "the setting database_url, the environment variable PGTASKS_DATABASE_URL, a "
    "broker_url that begins with postgresql://, or Django's DATABASES"
)

#: What `database_url` answers where no setting names a database.
EMBEDDED = "embedded"

_SCHEME = re.compile(r"([a-z][a-z0-9]*)(?:\+[a-z0-9_]+)?://", re.IGNORECASE)
_POSTGRESQL = {"postgres", "postgresql", "psql", "pgsql", "postgis"}
_CONNINFO = re.compile(r"\s*\w+\s*=")


def database_url(app: Configured) -> str:
    """Answer the URL of the application's database.

    The ways to name it, first wins: the setting ``database_url``; the environment
    variable ``PGTASKS_DATABASE_URL``; ``broker_url``, if it is PostgreSQL's; Django's
    ``DATABASES``. Where none of them says anything, and only there, an embedded server
    is used, and the answer is `EMBEDDED`.

    Raises:
        ImproperlyConfigured: A name leads to something that is no PostgreSQL database.
            A forgotten setting must not start a private server in production, so a
            foreign ``broker_url`` without a database is an error too.
    """
    conf = app.conf
    named = conf.database_url
    # Celery has a setting of this name, the SQLAlchemy URL of a result store, which may
    # well be a SQLite file: that is not what we are looking for.
    if named and (_scheme(named) in _POSTGRESQL or _scheme(named) is None):
        return _checked(named, "The setting database_url")
    if ENVIRONMENT in os.environ:
        return _checked(os.environ[ENVIRONMENT], f"The environment variable {ENVIRONMENT}")
    brokers = _broker_urls(conf.broker_url)
    for url in brokers:
        if is_postgresql(url):
            return _checked(url, "The setting broker_url")
    django = _django_url()
    if django:
        return django
    if brokers or named:
        what = "broker_url" if brokers else "database_url"
        shown = _masked(brokers[0] if brokers else named)
        raise ImproperlyConfigured(
            f"{what} is {shown!r}, and pgtasks keeps jobs in PostgreSQL. Say which "
            f"database, by {_WAYS}. ({what} may stay as it is then.)"
        )
    return EMBEDDED


def is_postgresql(url: Any) -> bool:
    """Whether a URL names a PostgreSQL database."""
    return isinstance(url, str) and _scheme(url) in _POSTGRESQL


def keeps_jobs_in_memory(app: Configured) -> bool:
    """Whether jobs are kept in this process, by ``broker_url = "memory://"``."""
    return any(_scheme(url) == "memory" for url in _broker_urls(app.conf.broker_url)[:1])


def runs_high_priority_first(app: Configured) -> bool:
    """Whether a larger priority runs sooner.

    Zero runs first, as on Redis, unless ``task_priority_order`` or the scheme of
    ``broker_url`` says that the program was written for RabbitMQ.
    """
    order = app.conf.task_priority_order
    if order is None:
        scheme = next(map(_scheme, _broker_urls(app.conf.broker_url)), None)
        return scheme in (
            "amqp",
            "amqps",
            "pyamqp",
            "librabbitmq",
            "qpid",
            "confluentkafka",
        )
    if order not in ("low_first", "high_first"):
        raise ImproperlyConfigured(
            f"task_priority_order is {order!r}: write 'low_first' or 'high_first'."
        )
    return bool(order == "high_first")


def _scheme(url: str) -> str | None:
    match = _SCHEME.match(url)
    return match.group(1).lower() if match else None


def _broker_urls(value: Any) -> list[str]:
    # Celery takes several, to fail over between brokers.
    if not value:
        return []
    urls = value.split(";") if isinstance(value, str) else value
    return [str(url).strip() for url in urls]


def _checked(url: str, whence: str) -> str:
    """Answer ``url``, if libpq can be expected to understand it."""
    url = url.strip() if isinstance(url, str) else url
    if not url:
        raise ImproperlyConfigured(
            f"{whence} is empty: unset it, or write postgresql://user@host/database."
        )
    if _scheme(url) is None and _CONNINFO.match(url):
        return url
    if _scheme(url) not in _POSTGRESQL:
        raise ImproperlyConfigured(
            f"{whence} is {_masked(url)!r}, which is no PostgreSQL URL: write "
            f"postgresql://user@host/database."
        )
    rest = url.partition("://")[2]
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if "#" in authority or authority.count("@") > 1:
        raise ImproperlyConfigured(
            f"{whence} has a '#' or '@' in its user or password: percent-encode it, as "
            f"%23 or %40."
        )
    return url


def _with_timeout(url: str, seconds: float | None) -> str:
    """Answer ``url`` with a bound on connecting, unless it has one of its own."""
    if not seconds or "connect_timeout" in url:
        return url
    # libpq knows whole seconds, and takes 1 for 2.
    bound = f"connect_timeout={max(2, round(float(seconds)))}"
    if "://" not in url:
        return f"{url} {bound}"
    return f"{url}{'&' if '?' in url else '?'}{bound}"


def _masked(url: Any) -> str:
    from pgtasks.app.masking import sanitize_url

    text = str(url)
    # What has no scheme cannot be taken apart, so nothing of it is shown after a colon.
    return str(sanitize_url(text)) if "://" in text else text.partition(":")[0]


def _django_url() -> str | None:
    """Answer the URL of Django's default database, where that is PostgreSQL."""
    from urllib.parse import quote, urlencode

    django_conf = sys.modules.get("django.conf")
    if django_conf is None:
        return None
    settings = django_conf.settings
    if not (settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE")):
        return None
    database = (getattr(settings, "DATABASES", None) or {}).get("default") or {}
    engine = str(database.get("ENGINE", ""))
    # Django's own, PostGIS, and the many that wrap them (prometheus, tenants, pools …).
    if not re.search(r"postg|psqlextra|tenants|tenant_schemas", engine):
        return None
    host = str(database.get("HOST") or "")
    credentials = quote(str(database.get("USER") or ""), safe="")
    if database.get("PASSWORD"):
        credentials += ":" + quote(str(database["PASSWORD"]), safe="")
    options = {
        key: value
        for key, value in (database.get("OPTIONS") or {}).items()
        if key.startswith("ssl") or key in ("service", "passfile", "target_session_attrs")
    }
    if host.startswith("/"):
        # A socket's folder does not fit between the slashes.
        options["host"], host = host, ""
    port = f":{database['PORT']}" if database.get("PORT") else ""
    if port and not host:
        options["port"], port = str(database["PORT"]), ""
    name = quote(str(database.get("NAME") or ""), safe="")
    at = f"{credentials}@" if credentials else ""
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{at}{host}{port}/{name}{query}"


class Connections:
    """The connections of an application, each opened when first used.

    Args:
        app: The application.
    """

    def __init__(self, app: Configured) -> None:
        self._app = app
        self._lock = threading.RLock()
        self._begin()

    def renew_lock(self) -> None:
        """Forget a lock that a thread of the parent process may have held at the fork."""
        self._lock = threading.RLock()

    def _begin(self) -> None:
        self._database: Database | None = None
        self._async_database: AsyncDatabase | None = None
        self._notifier: Notifier | None = None
        self._embedded: Any = None

    @property
    def database(self) -> Database:
        """Runs queries from threads.

        Raises:
            ImproperlyConfigured: No database is named, or jobs are kept in memory.
        """
        if self._database is None:
            with self._lock:
                # Two threads must not start two servers.
                if self._database is None:
                    self._database = self._make_database()
        return self._database

    @property
    def async_database(self) -> AsyncDatabase:
        """Runs queries from coroutines."""
        if self._async_database is None:
            from pgtasks.storage.aio import AsyncDatabase

            with self._lock:
                self._async_database = self._async_database or AsyncDatabase(self.database)
        return self._async_database

    @property
    def notifier(self) -> Notifier:
        """Listens to notifications."""
        if self._notifier is None:
            from pgtasks.storage.notifier import Notifier

            with self._lock:
                self._notifier = self._notifier or Notifier(self.database)
        return self._notifier

    @property
    def embedded(self) -> bool:
        """Whether the database is the embedded server."""
        return self._embedded is not None

    def _make_database(self) -> Database:
        app, conf = self._app, self._app.conf
        if keeps_jobs_in_memory(app) and not conf.database_url:
            raise ImproperlyConfigured(
                f"broker_url is 'memory://', so jobs are kept in this process and there "
                f"is no database to use. To have one, name it, by {_WAYS}."
            )
        url = database_url(app)
        if url == EMBEDDED:
            from pgtasks.storage import schema

            self._embedded = open_door("embedded")()
            url = self._embedded.url
            # Nobody looks after this one, so it is brought up to date by whoever comes.
            schema.apply(url, schema=conf.database_schema)
        from pgtasks.storage.database import Database

        if conf.value_set_for("broker_connection_timeout"):
            url = _with_timeout(url, conf.broker_connection_timeout)
        return Database(
            url,
            schema=conf.database_schema,
            pool_size=conf.broker_pool_limit or 10,
            pool_timeout=conf.broker_pool_acquire_timeout,
            application_name=f"pgtasks {app.main}" if app.main else "pgtasks",
            direct_url=conf.database_direct_url,
        )

    def close(self) -> None:
        """Close what has been opened; using it again opens it again."""
        with self._lock:
            notifier, database, embedded = self._notifier, self._database, self._embedded
            self._begin()
        if notifier is not None:
            notifier.close()
        if database is not None:
            database.close()
        if embedded is not None:
            embedded.close()
