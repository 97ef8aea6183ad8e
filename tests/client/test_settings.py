from __future__ import annotations

import copy
import logging
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.app import defaults, detection
from pgtasks.app.settings import Settings
from pgtasks.app.utils import filter_hidden_settings, sanitize_url
from pgtasks.exceptions import ImproperlyConfigured

Make = Callable[..., Celery]


@pytest.fixture
def bare(make_app: Make) -> Celery:
    """An application that has been told nothing."""
    return make_app(broker=None, backend=None)


# ── the table ───────────────────────────────────────────────────────────────────────────


def test_every_setting_says_what_it_does() -> None:
    assert [
        key for key, option in defaults.OPTIONS.items() if not option.doc.endswith(".")
    ] == []


def test_every_setting_has_a_type_that_can_be_read() -> None:
    unknown = {o.type for o in defaults.OPTIONS.values()} - set(defaults.Option.typemap)

    assert unknown == set()


def test_old_names_lead_to_new_ones_and_back() -> None:
    assert defaults._TO_NEW_KEY["CELERY_ALWAYS_EAGER"] == "task_always_eager"
    assert defaults._TO_OLD_KEY["worker_concurrency"] == "CELERYD_CONCURRENCY"
    assert defaults._TO_OLD_KEY["broker_url"] == "BROKER_URL"
    assert len(defaults._TO_NEW_KEY) == len(defaults.OPTIONS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("worker_lease", 20.0),
        ("worker_heartbeat_interval", 5.0),
        ("worker_max_crashes", 3),
        ("worker_max_lost", 10),
        ("task_body_max_size", 16 * 1024 * 1024),
        ("task_body_warn_size", 1_000_000),
        ("task_join_transaction", True),
        ("database_schema", "pgtasks"),
        ("task_default_queue", "celery"),
        ("worker_prefetch_multiplier", 4),
    ],
)
def test_settings_have_these_defaults(bare: Celery, key: str, value: Any) -> None:
    assert getattr(bare.conf, key) == value


def test_a_setting_is_found_by_a_part_of_its_name() -> None:
    assert defaults.find("default_queue") == (
        "task",
        "default_queue",
        defaults.OPTIONS["task_default_queue"],
    )
    assert defaults.find("url", "database").type is defaults.OPTIONS["database_url"]
    assert defaults.find("task_default_queue").key == "task_default_queue"
    with pytest.raises(KeyError):
        defaults.find("no_such_thing")


def test_defaults_of_one_application_are_not_those_of_another(make_app: Make) -> None:
    make_app().conf.beat_schedule["x"] = {"task": "y"}

    assert make_app().conf.beat_schedule == {}


# ── lazy ────────────────────────────────────────────────────────────────────────────────


def test_writing_a_setting_does_not_read_the_configuration(bare: Celery) -> None:
    bare.conf.worker_concurrency = 4
    bare.conf["task_always_eager"] = True
    bare.conf.update(worker_pool="solo")
    bare.conf.setdefault("worker_lease", 60)
    assert "worker_pool" in bare.conf
    assert not bare.configured

    assert bare.conf.worker_concurrency == 4
    assert bare.configured
    assert (bare.conf.task_always_eager, bare.conf.worker_pool) == (True, "solo")
    assert bare.conf.worker_lease == 60


@pytest.mark.parametrize(
    "read",
    [
        lambda conf: conf.task_serializer,
        lambda conf: conf["task_serializer"],
        lambda conf: conf.get("task_serializer"),
        list,
        len,
        repr,
        dict,
        lambda conf: conf.copy(),
        lambda conf: conf.table(),
    ],
)
def test_reading_anything_reads_it(bare: Celery, read: Callable[[Settings], Any]) -> None:
    read(bare.conf)

    assert bare.configured


def test_what_was_set_before_survives_the_configuration_object(bare: Celery) -> None:
    bare.conf.worker_concurrency = 4
    bare.config_from_object({"worker_concurrency": 8, "worker_pool": "solo"})

    assert (bare.conf.worker_concurrency, bare.conf.worker_pool) == (4, "solo")


def test_precedence(make_app: Make) -> None:
    app = make_app(broker=None, backend=None, worker_lease=1.0)
    app.conf.worker_concurrency = 2
    app.add_defaults(
        {k: "defaults" for k in ("worker_lease", "worker_concurrency", "a", "b")}
    )
    app.config_from_object(
        {
            k: "object"
            for k in ("worker_lease", "worker_concurrency", "a", "c", "task_queues")
        }
    )

    assert (app.conf.worker_lease, app.conf.worker_concurrency) == (1.0, 2)
    assert (app.conf.a, app.conf.b, app.conf.c) == ("defaults", "defaults", "object")
    assert app.conf.task_queues == "object"
    assert app.conf.task_default_queue == "celery"


def test_defaults_may_be_a_function_that_is_called_late(bare: Celery) -> None:
    called = []
    bare.add_defaults(lambda: called.append(1) or {"a": 1})
    assert called == []

    assert bare.conf.a == 1
    assert bare.conf.a == 1
    assert called == [1]


def test_defaults_added_late_count_at_once(bare: Celery) -> None:
    assert bare.conf.worker_concurrency is None

    bare.add_defaults({"worker_concurrency": 3})

    assert bare.conf.worker_concurrency == 3


def test_the_signals_are_sent_around_reading(bare: Celery) -> None:
    events: list[Any] = []
    bare.on_configure.connect(lambda **kw: events.append("before"), weak=False)
    bare.on_after_configure.connect(
        lambda source, **kw: events.append(("after", source.task_serializer)), weak=False
    )

    bare.conf.worker_concurrency  # noqa: B018
    bare.conf.worker_pool  # noqa: B018

    assert events == ["before", ("after", "json")]


def test_a_configuration_that_fails_to_load_fails_again(bare: Celery) -> None:
    bare.config_from_object("no_such_module_at_all")

    for _ in range(2):
        with pytest.raises(ImportError, match="no_such_module_at_all"):
            bare.conf.task_serializer  # noqa: B018
    assert not bare.configured


def test_the_configuration_is_read_once_though_many_threads_want_it(bare: Celery) -> None:
    read = []
    all_ready = threading.Barrier(8)
    bare.on_configure.connect(lambda **kw: read.append(1), weak=False)

    def want() -> None:
        all_ready.wait()
        bare.conf.task_serializer  # noqa: B018

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read == [1]


# ── configuration objects ───────────────────────────────────────────────────────────────


class Config:
    worker_concurrency = 7
    broker_url = "memory://"


@pytest.mark.parametrize(
    "source",
    [
        {"worker_concurrency": 7},
        Config,
        Config(),
        SimpleNamespace(worker_concurrency=7),
    ],
    ids=["dict", "class", "instance", "namespace"],
)
def test_the_configuration_may_be_any_object(bare: Celery, source: Any) -> None:
    bare.config_from_object(source)

    assert bare.conf.worker_concurrency == 7


@pytest.mark.parametrize("name", ["some_config", "some_config:inner", "some_config.inner"])
def test_the_configuration_may_be_a_name(
    bare: Celery, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("some_config")
    module.__dict__.update(worker_concurrency=7, inner=Config)
    monkeypatch.setitem(sys.modules, "some_config", module)

    bare.config_from_object(name)

    assert bare.conf.worker_concurrency == 7


def test_a_configuration_that_may_be_missing(bare: Celery) -> None:
    bare.config_from_object("no_such_module_at_all", silent=True)

    assert bare.conf.worker_concurrency is None


def test_a_name_that_leads_to_no_attribute_is_told_as_such(bare: Celery) -> None:
    bare.config_from_object("json.no_such_attribute")

    with pytest.raises(ModuleNotFoundError, match="no_such_attribute"):
        bare.conf.broker_url  # noqa: B018


def test_the_configuration_from_an_environment_variable(
    bare: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("some_config")
    module.__dict__.update(worker_concurrency=7)
    monkeypatch.setitem(sys.modules, "some_config", module)
    monkeypatch.setenv("SOME_CONFIG", "some_config")

    bare.config_from_envvar("SOME_CONFIG")

    assert bare.conf.worker_concurrency == 7


def test_an_environment_variable_that_is_not_set(bare: Celery) -> None:
    assert bare.config_from_envvar("NO_SUCH_VARIABLE", silent=True) is False
    with pytest.raises(ImproperlyConfigured, match="'NO_SUCH_VARIABLE' is not set"):
        bare.config_from_envvar("NO_SUCH_VARIABLE")


def test_the_configuration_from_a_command_line(bare: Celery) -> None:
    words = [
        "worker.concurrency=10",
        "task_always_eager=yes",
        ".lease=(float)2.5",
        'beat.schedule=(dict){"a": 1}',
        'accept_content=(list)["json", "yaml"]',
    ]

    bare.config_from_cmdline(words, namespace="worker")

    assert (bare.conf.worker_concurrency, bare.conf.task_always_eager) == ("10", True)
    assert bare.conf.worker_lease == 2.5
    assert bare.conf.beat_schedule == {"a": 1}
    assert bare.conf.accept_content == ["json", "yaml"]


def test_a_word_that_is_not_of_the_settings_type_names_the_setting(bare: Celery) -> None:
    with pytest.raises(ValueError, match="broker_port"):
        bare.config_from_cmdline(["broker.port=many"])


def test_reading_another_object_later_replaces_the_first(bare: Celery) -> None:
    bare.config_from_object({"worker_concurrency": 1, "worker_pool": "solo"})
    conf = bare.conf
    assert conf.worker_concurrency == 1

    bare.config_from_object({"worker_concurrency": 2})

    assert bare.conf.worker_concurrency == 2
    assert bare.conf.worker_pool == "prefork"
    # Whoever holds the settings sees it too.
    assert conf.worker_concurrency == 2


# ── names ───────────────────────────────────────────────────────────────────────────────


def test_old_names_are_read_and_written(bare: Celery) -> None:
    bare.config_from_object({"CELERY_ALWAYS_EAGER": True, "CELERYD_CONCURRENCY": 3})

    assert bare.conf.task_always_eager is True
    assert bare.conf.CELERY_ALWAYS_EAGER is True
    assert bare.conf["worker_concurrency"] == 3

    bare.conf.CELERYD_CONCURRENCY = 5
    assert bare.conf.worker_concurrency == 5


def test_the_last_writer_wins_whichever_name_it_uses(bare: Celery) -> None:
    assert bare.conf.worker_concurrency is None

    bare.conf.worker_concurrency = 1
    bare.conf.CELERYD_CONCURRENCY = 2
    assert bare.conf.worker_concurrency == 2

    bare.conf.worker_concurrency = 3
    assert (bare.conf.worker_concurrency, bare.conf.CELERYD_CONCURRENCY) == (3, 3)


@pytest.mark.parametrize(
    ("mixture", "renames"),
    [
        (
            {"task_always_eager": 1, "worker_pool": "solo", "CELERYD_AGENT": "x"},
            "CELERYD_AGENT +-> worker_agent",
        ),
        (
            {"CELERY_ALWAYS_EAGER": 1, "CELERYD_AGENT": "x", "worker_pool": "solo"},
            "worker_pool +-> CELERYD_POOL",
        ),
    ],
)
def test_mixing_old_and_new_names_is_refused_with_the_renames(
    bare: Celery, mixture: dict[str, Any], renames: str
) -> None:
    bare.config_from_object(mixture)

    with pytest.raises(ImproperlyConfigured, match=renames):
        bare.conf.task_serializer  # noqa: B018


def test_a_setting_under_both_names_is_no_mixture(bare: Celery) -> None:
    bare.config_from_object({"worker_pool": "solo", "CELERYD_POOL": "solo"})

    assert bare.conf.worker_pool == "solo"


def test_the_apps_own_arguments_do_not_count_as_new_names(make_app: Make) -> None:
    app = make_app(include=["a"])
    app.conf.update(CELERY_ALWAYS_EAGER=True, CELERYD_POOL="solo")

    assert app.conf.task_always_eager is True
    assert app.conf.include == ["a"]


@pytest.mark.parametrize("namespace", ["CELERY", "CELERY_", "celery"])
def test_names_in_a_namespace(bare: Celery, namespace: str) -> None:
    prefix = "CELERY_" if namespace.isupper() else "celery_"
    shout = str.upper if namespace.isupper() else str.lower
    names = {"task_always_eager": 1, "worker_concurrency": 3, "broker_url": "memory://"}
    source = {prefix + shout(key): value for key, value in names.items()}
    source["TIME_ZONE"] = "Europe/Paris"

    bare.config_from_object(source, namespace=namespace)

    assert bare.conf.task_always_eager == 1
    assert bare.conf[prefix + shout("worker_concurrency")] == 3
    assert bare.conf.broker_url == "memory://"
    assert bare.conf.timezone == "Europe/Paris"

    setattr(bare.conf, prefix + shout("worker_concurrency"), 5)
    assert bare.conf.worker_concurrency == 5


def test_a_namespace_excuses_old_names(bare: Celery) -> None:
    bare.config_from_object(
        {"CELERY_ALWAYS_EAGER": True, "CELERY_WORKER_POOL": "solo"}, namespace="CELERY"
    )

    assert bare.conf.task_always_eager is True
    assert bare.conf.worker_pool == "solo"


def test_settings_of_ones_own_are_kept(make_app: Make) -> None:
    app = make_app(foo="bar")
    app.conf.something_else = [1]

    assert (app.conf.foo, app.conf.something_else) == ("bar", [1])
    with pytest.raises(AttributeError, match="no_such_setting"):
        app.conf.no_such_setting  # noqa: B018
    with pytest.raises(KeyError, match="no_such_setting"):
        app.conf["no_such_setting"]
    assert app.conf.get("no_such_setting", 5) == 5


@pytest.mark.parametrize(
    ("source", "namespace", "hint"),
    [
        ({"task_seriializer": "json"}, None, "'task_serializer'"),
        ({"CELERY_TASK_SERIALISER": "json"}, None, "'CELERY_TASK_SERIALIZER'"),
        ({"CELERY_WORKER_CONCURENCY": 4}, "CELERY", "'CELERY_WORKER_CONCURRENCY'"),
    ],
)
def test_a_misspelled_setting_is_told_once_and_kept(
    make_app: Make,
    caplog: pytest.LogCaptureFixture,
    source: dict[str, Any],
    namespace: str | None,
    hint: str,
) -> None:
    (name,) = source
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            app = make_app(broker=None, backend=None)
            app.config_from_object(source, namespace=namespace)
            assert app.conf[name] == source[name]

    (record,) = caplog.records
    assert "did you mean" in record.getMessage()
    assert hint in record.getMessage()


def test_a_setting_misspelled_in_the_program_is_told_too(
    bare: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    assert bare.conf.worker_concurrency is None

    bare.conf.worker_concurency = 4

    assert "'worker_concurrency'" in caplog.text


def test_what_else_stands_in_a_configuration_module_is_nobodys_business(
    bare: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    bare.config_from_object(
        {
            "os": 1, "crontab": 2, "DEBUG": True, "INSTALLED_APPS": [], "task": 3,
            "EMAIL_HOST": "x", "task_queue_of_my_own": "y", "CELERY_MY_THING": 5,
        },
        namespace=None,
    )  # fmt: skip

    bare.conf.task_serializer  # noqa: B018

    assert caplog.records == []


# ── what has no effect ──────────────────────────────────────────────────────────────────


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Answers what the log has said of settings without effect."""
    with caplog.at_level(logging.INFO, "celery.app.settings"):
        yield lambda: [r.getMessage() for r in caplog.records if "effect" in r.getMessage()]


def test_settings_without_effect_are_named_once(
    make_app: Make, told: Callable[[], list[str]]
) -> None:
    for _ in range(2):
        app = make_app(broker=None, backend=None, redis_host="cache")
        app.config_from_object({"CELERY_BROKER_HEARTBEAT": 10}, namespace="CELERY")
        assert app.conf.broker_heartbeat == 10

    (message,) = told()
    assert "broker_heartbeat, redis_host" in message


def test_a_setting_without_effect_that_says_what_is_so_anyway_is_not_worth_a_word(
    bare: Celery, told: Callable[[], list[str]]
) -> None:
    bare.config_from_object({"task_protocol": 2, "task_acks_late": True})

    assert bare.conf.task_acks_late
    assert told() == []


def test_a_setting_without_effect_that_is_set_late_is_named_too(
    bare: Celery, told: Callable[[], list[str]]
) -> None:
    assert bare.conf.broker_heartbeat == 120

    bare.conf.broker_heartbeat = 10

    assert len(told()) == 1


def test_settings_without_effect_wait_for_a_log_that_listens(
    bare: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    bare.config_from_object({"task_protocol": 1})
    with caplog.at_level(logging.WARNING, "celery.app.settings"):
        assert bare.conf.task_protocol == 1

    with caplog.at_level(logging.INFO, "celery.app.settings"):
        # As a worker does, whose settings say how it logs.
        detection.tell_of_idle(bare.conf)

    assert "task_protocol" in caplog.text


# ── the environment ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("CELERY_BROKER_URL", "broker_url"),
        ("CELERY_BROKER_READ_URL", "broker_read_url"),
        ("CELERY_BROKER_WRITE_URL", "broker_write_url"),
        ("CELERY_RESULT_BACKEND", "result_backend"),
    ],
)
def test_the_environment_wins(
    app: Celery, monkeypatch: pytest.MonkeyPatch, variable: str, setting: str
) -> None:
    assert getattr(app.conf, setting) != "memory://other"

    monkeypatch.setenv(variable, "memory://other")

    assert getattr(app.conf, setting) == "memory://other"


def test_reading_and_writing_urls_follow_the_broker(bare: Celery) -> None:
    bare.conf.broker_url = "postgresql:///shop"

    assert bare.conf.broker_read_url == "postgresql:///shop"
    assert bare.conf.broker_write_url == "postgresql:///shop"


def test_exchange_and_key_follow_the_queue(bare: Celery) -> None:
    bare.conf.task_default_queue = "mail"

    assert (bare.conf.task_default_exchange, bare.conf.task_default_routing_key) == (
        "mail",
        "mail",
    )


# ── once read ───────────────────────────────────────────────────────────────────────────


def test_a_setting_that_has_been_read_is_a_plain_attribute(bare: Celery) -> None:
    assert "task_serializer" not in bare.conf.__dict__

    bare.conf.task_serializer  # noqa: B018

    assert bare.conf.__dict__["task_serializer"] == "json"


@pytest.mark.parametrize(
    "change",
    [
        lambda app: setattr(app.conf, "task_serializer", "new"),
        lambda app: app.conf.__setitem__("task_serializer", "new"),
        lambda app: app.conf.update({"task_serializer": "new"}),
        lambda app: app.conf.update(task_serializer="new"),
        lambda app: app.conf.update([("CELERY_TASK_SERIALIZER", "new")]),
        lambda app: app.add_defaults({"task_serializer": "new"}),
        lambda app: app.config_from_object({"task_serializer": "new"}),
    ],
)
def test_a_change_is_seen_though_the_setting_was_read(
    bare: Celery, change: Callable[[Celery], Any]
) -> None:
    assert bare.conf.task_serializer == "json"

    change(bare)

    assert bare.conf.task_serializer == "new"
    assert bare.conf["task_serializer"] == "new"


def test_a_change_can_be_taken_back(bare: Celery) -> None:
    bare.conf.worker_concurrency = 3
    assert bare.conf.worker_concurrency == 3

    del bare.conf["worker_concurrency"]
    assert bare.conf.worker_concurrency is None

    bare.conf.worker_pool = "solo"
    assert bare.conf.pop("worker_pool") == "solo"
    assert bare.conf.pop("worker_pool", "none") == "none"
    assert bare.conf.worker_pool == "prefork"
    with pytest.raises(KeyError):
        del bare.conf["worker_pool"]
    with pytest.raises(AttributeError):
        del bare.conf.worker_pool


def test_clearing_takes_back_what_the_app_was_given_too(make_app: Make) -> None:
    app = make_app(task_always_eager=True)
    assert app.conf.task_always_eager is True

    app.conf.clear()

    assert app.conf.task_always_eager is False


def test_changes_are_told_under_their_new_names(bare: Celery) -> None:
    heard: list[Any] = []
    assert bare.conf.worker_concurrency is None
    bare.conf.bind_to(heard.append)

    bare.conf.CELERYD_CONCURRENCY = 2
    bare.conf.update(task_routes={}, worker_pool="solo")

    assert heard == [{"worker_concurrency"}, {"task_routes", "worker_pool"}]


def test_a_value_read_while_it_changes_is_not_kept(bare: Celery) -> None:
    stop = threading.Event()
    failed: list[Exception] = []

    def read() -> None:
        try:
            while not stop.is_set():
                bare.conf.worker_concurrency  # noqa: B018
        except AttributeError as error:
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(2000):
            bare.conf.worker_concurrency = number
            assert bare.conf.worker_concurrency == number
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not failed


def test_what_another_thread_sets_while_the_configuration_is_read_is_kept() -> None:
    def load() -> None:
        read = Settings({"task_default_queue": "mail"}, [defaults.DEFAULTS])
        writer = threading.Thread(target=setattr, args=(conf, "result_expires", 5))
        writer.start()
        writer.join(10)
        conf.become(read)

    conf = Settings({"task_default_queue": "mail"}, load=load)

    assert (conf.task_default_queue, conf.result_expires) == ("mail", 5)


# ── copies ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("copied", [copy.copy, lambda conf: conf.copy()])
def test_a_copy_changes_by_itself(
    bare: Celery, copied: Callable[[Settings], Settings]
) -> None:
    bare.conf.worker_concurrency = 1

    other = copied(bare.conf)
    other.worker_concurrency = 2

    assert (bare.conf.worker_concurrency, other.worker_concurrency) == (1, 2)
    assert other.task_serializer == "json"


def test_settings_are_pickled_with_what_a_module_said(
    bare: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("some_config")
    module.__dict__.update(worker_pool="solo", cannot_be_pickled=threading.Lock())
    monkeypatch.setitem(sys.modules, "some_config", module)
    bare.config_from_object("some_config")
    bare.conf.worker_concurrency = 3
    bare.conf.own = "mine"

    again = pickle.loads(pickle.dumps(bare.conf))

    assert (again.worker_pool, again.worker_concurrency, again.own) == ("solo", 3, "mine")
    assert again.task_serializer == "json"


def test_settings_are_a_mapping(bare: Celery) -> None:
    bare.conf.own = 1

    assert bare.conf["own"] == dict(bare.conf)["own"] == 1
    assert set(defaults.DEFAULTS) <= set(bare.conf)
    assert len(bare.conf) == len(list(bare.conf.items()))
    assert "own" in bare.conf
    assert "no_such_setting" not in bare.conf


# ── shown ───────────────────────────────────────────────────────────────────────────────


def test_secrets_are_not_shown(bare: Celery) -> None:
    bare.conf.update(
        broker_url="amqp://user:hunter2@host/vhost",
        database_url="postgresql://me:hunter2@db/shop?sslmode=require",
        result_backend="redis://:hunter2@host/0",
        redis_password="hunter2",
        broker_transport_options={"api_key": "hunter2", "visibility_timeout": 3600},
    )

    for shown in (bare.conf.humanize(), repr(bare.conf), str(bare.conf.table())):
        assert "hunter2" not in shown
        assert "visibility_timeout" in shown
        assert "postgresql://me:********@db/shop?sslmode=require" in shown
    assert "hunter2" in bare.conf.humanize(censored=False)


def test_a_table_has_the_defaults_if_wanted(bare: Celery) -> None:
    bare.conf.worker_pool = "solo"

    assert bare.conf.table() == {"worker_pool": "solo"}
    assert bare.conf.table(with_defaults=True)["task_serializer"] == "json"


def test_whether_a_setting_was_set(bare: Celery) -> None:
    bare.config_from_object({"CELERY_WORKER_POOL": "solo"}, namespace="CELERY")

    assert bare.conf.value_set_for("worker_pool")
    assert not bare.conf.value_set_for("task_serializer")


def test_settings_by_their_parts(bare: Celery) -> None:
    assert bare.conf.get_by_parts("task", "default_queue") == "celery"
    assert bare.conf.find_value_for_key("always_eager") is False
    assert bare.conf.find_option("pool").namespace == "worker"


def test_old_names_can_be_warned_of(bare: Celery) -> None:
    bare.config_from_object({"CELERYD_POOL": "solo"})
    assert bare.conf.worker_pool == "solo"

    with pytest.warns(DeprecationWarning, match="CELERYD_POOL.*worker_pool"):
        assert bare.conf.maybe_warn_deprecated_settings()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/db", "postgresql://u:********@h/db"),
        ("postgresql://h/db?password=p&x=1", "postgresql://h/db?password=********&x=1"),
        ("host=h password=p dbname=x", "host=h password=******** dbname=x"),
        ("host=h password='p q' dbname=x", "host=h password=******** dbname=x"),
        ("redis://:p;q@h/0", "redis://:********@h/0"),
        ("mongodb://a:p@h1,b:q@h2/db", "mongodb://a:********@h1,b:********@h2/db"),
        ("sentinel://:p@h1:1;h2:2/0", "sentinel://:********@h1:1;h2:2/0"),
        (
            "sentinel://:p@h1;sentinel://:q@h2",
            "sentinel://:********@h1;sentinel://:********@h2",
        ),
        ("redis://a@b@h/0", "redis://********@h/0"),
        ("memory://", "memory://"),
        ("disabled", "disabled"),
        ("", ""),
        (None, None),
        (5, 5),
    ],
)
def test_urls_are_shown_without_passwords(url: Any, shown: Any) -> None:
    assert sanitize_url(url) == shown


def test_settings_inside_of_settings_are_censored_and_other_keys_ignored() -> None:
    shown = filter_hidden_settings(
        {
            "a": {"SECRET_KEY": "x"},
            5: "y",
            "broker_url": ["redis://:x@h"],
            "database_schema": "s",
        }
    )

    assert shown == {
        "a": {"SECRET_KEY": "********"},
        5: "y",
        "broker_url": ["redis://:********@h"],
        "database_schema": "s",
    }
