from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.app import connection
from pgtasks.app.connection import (
    EMBEDDED,
    database_url,
    keeps_jobs_in_memory,
    runs_high_priority_first,
)
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.storage.query import Query

Make = Callable[..., Celery]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGTASKS_DATABASE_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def django(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that Django runs, with a default database like this."""

    def configure(**database: Any) -> None:
        module: Any = ModuleType("django.conf")
        module.settings = SimpleNamespace(configured=True, DATABASES={"default": database})
        monkeypatch.setitem(sys.modules, "django.conf", module)

    return configure


def url_of(make_app: Make, **settings: Any) -> str:
    return database_url(make_app(**{"broker": None, "backend": None, **settings}))


# ── which database ──────────────────────────────────────────────────────────────────────


def test_the_setting_comes_first(make_app: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_DATABASE_URL", "postgresql:///environment")

    url = url_of(
        make_app, database_url="postgresql:///setting", broker="postgresql:///broker"
    )

    assert url == "postgresql:///setting"


def test_then_the_environment(
    make_app: Make, monkeypatch: pytest.MonkeyPatch, django: Callable[..., None]
) -> None:
    monkeypatch.setenv("PGTASKS_DATABASE_URL", "postgresql:///environment")
    django(ENGINE="django.db.backends.postgresql", NAME="django")

    assert url_of(make_app, broker="postgresql:///broker") == "postgresql:///environment"


@pytest.mark.parametrize(
    "broker",
    [
        "postgresql://h/db",
        "postgres://h/db",
        "postgresql+psycopg2://h/db",
        ["redis://h", "postgresql://h/db"],
        "redis://h;postgresql://h/db",
    ],
)
def test_then_the_broker_if_it_is_postgresql(
    make_app: Make, broker: Any, django: Callable[..., None]
) -> None:
    django(ENGINE="django.db.backends.postgresql", NAME="django")

    assert url_of(make_app, broker=broker).endswith("://h/db")


def test_then_django(make_app: Make, django: Callable[..., None]) -> None:
    django(
        ENGINE="django.db.backends.postgresql",
        NAME="shop db",
        USER="me",
        PASSWORD="p@ss#/",
        HOST="db.example",
        PORT=5433,
        OPTIONS={"sslmode": "require", "pool": True, "isolation_level": 2},
    )

    url = url_of(make_app, broker="redis://h")

    assert url == "postgresql://me:p%40ss%23%2F@db.example:5433/shop%20db?sslmode=require"


@pytest.mark.parametrize(
    ("database", "url"),
    [
        ({"NAME": "x"}, "postgresql:///x"),
        ({"NAME": "x", "HOST": "/var/run"}, "postgresql:///x?host=%2Fvar%2Frun"),
        ({"NAME": "x", "PORT": "5433"}, "postgresql:///x?port=5433"),
        ({"NAME": "x", "USER": "u"}, "postgresql://u@/x"),
        ({"OPTIONS": {"service": "shop"}}, "postgresql:///?service=shop"),
    ],
)
@pytest.mark.parametrize(
    "engine",
    ["django.contrib.gis.db.backends.postgis", "django_prometheus.db.backends.postgresql"],
)
def test_django_databases_of_every_kind(
    make_app: Make,
    django: Callable[..., None],
    database: dict[str, Any],
    url: str,
    engine: str,
) -> None:
    django(ENGINE=engine, **database)

    assert url_of(make_app) == url


def test_django_on_another_database_names_none(
    make_app: Make, django: Callable[..., None]
) -> None:
    django(ENGINE="django.db.backends.sqlite3", NAME="x")

    assert url_of(make_app) == EMBEDDED


def test_with_nothing_said_at_all_the_embedded_server_serves(make_app: Make) -> None:
    assert url_of(make_app) == EMBEDDED


@pytest.mark.parametrize(
    "broker", ["redis://localhost", "amqp://u:hunter2@h//", "sqlite://", "sqs://"]
)
def test_a_foreign_broker_without_a_database_is_an_error_that_names_the_ways(
    make_app: Make, broker: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        url_of(make_app, broker=broker)

    for way in ("database_url", "PGTASKS_DATABASE_URL", "postgresql://", "DATABASES"):
        assert way in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_foreign_broker_with_a_database_is_none(make_app: Make) -> None:
    assert (
        url_of(make_app, broker="redis://h", database_url="postgresql:///x")
        == "postgresql:///x"
    )


def test_celerys_setting_of_the_same_name_may_be_another_database(make_app: Make) -> None:
    settings = {"database_url": "sqlite:///results.db"}

    assert url_of(make_app, broker="postgresql:///x", **settings) == "postgresql:///x"
    with pytest.raises(ImproperlyConfigured, match="database_url"):
        url_of(make_app, **settings)


@pytest.mark.parametrize("url", ["host=h dbname=x", "service=shop", " user = me"])
def test_libpqs_own_notation_is_understood(make_app: Make, url: str) -> None:
    assert url_of(make_app, database_url=url) == url.strip()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("postgres//nope:hunter2", "no PostgreSQL URL"),
        ("mysql://u:hunter2@h/x", "no PostgreSQL URL"),
        ("postgresql://u:hunter2#x@h/db", "percent-encode"),
        ("postgresql://u:hunter2@x@h/db", "percent-encode"),
    ],
)
def test_a_url_that_cannot_be_is_told_without_its_password(
    make_app: Make, monkeypatch: pytest.MonkeyPatch, url: str, complaint: str
) -> None:
    monkeypatch.setenv("PGTASKS_DATABASE_URL", url)

    with pytest.raises(ImproperlyConfigured, match=complaint) as raised:
        url_of(make_app)

    assert "PGTASKS_DATABASE_URL" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_password_may_be_percent_encoded(make_app: Make) -> None:
    url = "postgresql://u:p%40s%23s@h/db?application_name=a#b"

    assert url_of(make_app, broker=url) == url


# ── what the broker's scheme says ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("broker", "memory"),
    [
        ("memory://", True),
        ("memory://localhost//", True),
        ("redis://h", False),
        (None, False),
    ],
)
def test_jobs_may_be_kept_in_memory(make_app: Make, broker: Any, memory: bool) -> None:
    assert keeps_jobs_in_memory(make_app(broker=broker)) is memory


@pytest.mark.parametrize(
    ("broker", "order", "high"),
    [
        (None, None, False),
        ("postgresql:///x", None, False),
        ("redis://h", None, False),
        ("amqp://h", None, True),
        ("pyamqp://h;pyamqp://g", None, True),
        ("amqp://h", "low_first", False),
        ("redis://h", "high_first", True),
    ],
)
def test_priorities_keep_the_meaning_they_had(
    make_app: Make, broker: Any, order: Any, high: bool
) -> None:
    app = make_app(broker=broker, task_priority_order=order)

    assert runs_high_priority_first(app) is high


def test_an_unknown_order_of_priorities_is_refused(make_app: Make) -> None:
    with pytest.raises(ImproperlyConfigured, match="high_first"):
        runs_high_priority_first(make_app(task_priority_order="sideways"))


# ── connections ─────────────────────────────────────────────────────────────────────────


def one(rows: Any) -> Any:
    return rows[0][0]


def test_connections_are_made_when_they_are_used_and_made_again(
    make_app: Make, database_url: str
) -> None:
    app = make_app("shop", broker=database_url)
    query = Query("select current_setting('application_name')", {}, one)

    assert app.database.run(query) == "pgtasks shop"
    assert app.database is app.database
    assert app.notifier is app.notifier
    assert app.async_database is app.async_database

    app.close()
    assert app.database.run(query) == "pgtasks shop"


def test_threads_that_come_at_once_share_one_database(
    make_app: Make, database_url: str
) -> None:
    app = make_app(broker=database_url)
    all_ready = threading.Barrier(8)

    def use(_: int) -> int:
        all_ready.wait()
        return id(app.database)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(use, range(8)))) == 1


def test_settings_reach_the_database(make_app: Make) -> None:
    app = make_app(
        broker="postgresql://pooler/x",
        database_schema="jobs",
        database_direct_url="postgresql://server/x",
        broker_pool_limit=3,
        broker_pool_acquire_timeout=0.5,
    )

    assert (app.database.schema, app.database.pool_size) == ("jobs", 3)
    assert (app.database.pool_timeout, app.async_database.pool_timeout) == (0.5, 0.5)
    assert app.database.direct is not app.database.endpoint


@pytest.mark.parametrize("limit", [None, 0])
def test_there_is_always_a_pool(make_app: Make, limit: int | None) -> None:
    app = make_app(broker="postgresql://server/x", broker_pool_limit=limit)

    assert app.database.pool_size == app.async_database.pool_size == 10
    assert app.database.pool_timeout is None


@pytest.mark.parametrize(
    ("url", "seconds", "bound"),
    [
        ("postgresql://h/x", 4, "connect_timeout=4"),
        ("postgresql://h/x?sslmode=require", 2.6, "connect_timeout=3"),
        ("postgresql://h/x", 0.1, "connect_timeout=2"),
        ("host=h dbname=x", 4, "connect_timeout=4"),
        ("postgresql://h/x?connect_timeout=7", 4, "connect_timeout=7"),
    ],
)
def test_connecting_is_bounded_by_the_setting_unless_the_url_does_it(
    make_app: Make, url: str, seconds: float, bound: str
) -> None:
    app = make_app(database_url=url, broker_connection_timeout=seconds)

    parameters = app.database.endpoint.parameters()

    assert f"connect_timeout={parameters['connect_timeout']}" == bound
    assert parameters["dbname"] == "x"


def test_without_the_setting_connecting_has_the_time_that_it_has(make_app: Make) -> None:
    app = make_app(broker="postgresql://h/x")

    assert "connect_timeout" not in app.database.url


def test_in_memory_there_is_no_database_to_use(make_app: Make) -> None:
    with pytest.raises(ImproperlyConfigured, match="memory://"):
        make_app().database  # noqa: B018


def test_closing_what_was_never_opened(make_app: Make) -> None:
    make_app().close()


def test_the_embedded_server_is_migrated_and_let_go_of(
    make_app: Make, monkeypatch: pytest.MonkeyPatch, fresh_database: str
) -> None:
    closed = []

    class Server:
        url = fresh_database

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(connection, "open_door", lambda name: Server)
    app = make_app(broker=None, backend=None)

    assert app.database.run(Query("select count(*) from pgtasks.jobs", {}, one)) == 0
    assert app._connections.embedded

    app.close()
    assert closed == [True]
