from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Exchange, Queue
from kombu.common import Broadcast

from pgtasks import Celery
from pgtasks.app.amqp import Queues, utf8dict
from pgtasks.app.routes import MapRoute, prepare
from pgtasks.exceptions import ImproperlyConfigured, QueueNotFound

Make = Callable[..., Celery]


def queue_of(app: Celery, task: str, *args: Any, **options: Any) -> str:
    return app.amqp.router.destination(options, task, args, {})["queue"]  # type: ignore[no-any-return]


def route_mail(
    name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any
) -> Any:
    return {"queue": "mail", "priority": 3} if name.startswith("mail.") else None


class OldRouter:
    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return "old" if task == "old.task" else None


# ── the setting ─────────────────────────────────────────────────────────────────────────


def test_names_globs_and_patterns_lead_to_routes() -> None:
    route = MapRoute(
        [
            ("proj.exact", {"queue": "exact"}),
            ("proj.tasks.bar*", {"queue": "first"}),
            ("proj.tasks.*", "second"),
            (re.compile(r"(video|image)\..*"), {"queue": "media", "priority": 1}),
        ]
    )

    assert route("proj.exact") == {"queue": "exact"}
    assert route("proj.tasks.bar.baz") == {"queue": "first"}
    assert route("proj.tasks.foo") == {"queue": "second"}
    assert route("image.resize") == {"queue": "media", "priority": 1}
    assert route("else.where") is None


def test_a_route_is_handed_out_as_a_copy() -> None:
    route = MapRoute({"a": {"queue": "x"}})
    taken = route("a")
    assert taken is not None

    taken["queue"] = "changed"

    assert route("a") == {"queue": "x"}


@pytest.mark.parametrize(
    ("routes", "task", "queue"),
    [
        ({"a.*": "alpha"}, "a.b", "alpha"),
        ({"a.*": {"queue": "alpha"}}, "a.b", "alpha"),
        ([{"a.*": "alpha"}, {"b.*": "beta"}], "b.c", "beta"),
        ([[("a.*", "alpha"), ("*", "rest")]], "x", "rest"),
        (route_mail, "mail.send", "mail"),
        ([OldRouter(), route_mail], "old.task", "old"),
        (f"{__name__}:route_mail", "mail.send", "mail"),
        (f"{__name__}.OldRouter", "old.task", "old"),
        ([f"{__name__}:route_mail", {"*": "rest"}], "x", "rest"),
        (({"a": "alpha"},), "a", "alpha"),
        (None, "a", "celery"),
        ({}, "a", "celery"),
    ],
)
def test_routes_of_every_form(app: Celery, routes: Any, task: str, queue: str) -> None:
    app.conf.task_routes = routes

    assert queue_of(app, task) == queue
    assert app.amqp.router.route({}, task)["queue"].name == queue


def test_routers_are_told_about_the_call(app: Celery) -> None:
    asked: list[Any] = []

    def router(*args: Any, **kwargs: Any) -> None:
        asked.append((args, kwargs))

    app.conf.task_routes = [router]
    app.amqp.router.destination(
        {"priority": 3}, "a.task", (1,), {"k": 2}, task_type="the task"
    )

    assert asked == [(("a.task", (1,), {"k": 2}, {"priority": 3}), {"task": "the task"})]


def test_what_the_caller_says_wins_over_the_route(app: Celery) -> None:
    app.conf.task_routes = {"*": {"queue": "routed", "priority": 5, "expires": 10}}

    chosen = app.amqp.router.destination({"queue": "mine", "priority": None}, "a")

    assert chosen == {"queue": "mine", "priority": 5, "expires": 10}


def test_the_callers_options_are_left_alone(app: Celery) -> None:
    app.conf.task_routes = {"*": "routed"}
    options = {"priority": 1}

    app.amqp.router.destination(options, "a")

    assert options == {"priority": 1}


def test_changing_the_routes_counts_at_once(app: Celery) -> None:
    app.conf.task_routes = {"a": "first"}
    assert queue_of(app, "a") == "first"

    app.conf.task_routes = {"a": "second"}
    assert queue_of(app, "a") == "second"

    app.conf.update(CELERY_ROUTES={"a": "third"})
    assert queue_of(app, "a") == "third"


def test_changing_something_else_keeps_the_router(app: Celery) -> None:
    router = app.amqp.router

    app.conf.worker_concurrency = 3

    assert app.amqp.router is router


def test_prepare_takes_nothing_and_other_objects() -> None:
    router = object()

    assert prepare(None) == ()
    assert prepare(router) == [router]


def test_a_router_by_name_is_imported_when_it_is_asked(app: Celery) -> None:
    app.conf.task_routes = ["no_such_module_at_all:router"]

    router = app.amqp.router
    with pytest.raises(ModuleNotFoundError):
        router.destination({}, "a")


# ── queues ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "queue", ["mail", Queue("mail"), "очередь-é", "a\"b'; drop table x;--"]
)
def test_a_queue_is_named_by_text_or_by_kombus_object(app: Celery, queue: Any) -> None:
    assert queue_of(app, "a", queue=queue) == getattr(queue, "name", queue)


@pytest.mark.parametrize("queue", [None, ""])
def test_no_queue_means_the_default_one(app: Celery, queue: Any) -> None:
    app.conf.task_default_queue = "usual"

    assert queue_of(app, "a", queue=queue) == "usual"


def test_queues_may_have_to_be_declared(app: Celery) -> None:
    app.conf.update(task_create_missing_queues=False, task_queues=[Queue("mail")])

    assert queue_of(app, "a", queue="mail") == "mail"
    with pytest.raises(QueueNotFound, match="'nope' missing from task_queues"):
        queue_of(app, "a", queue="nope")
    with pytest.raises(QueueNotFound):
        app.amqp.router.route({"queue": "nope"}, "a")


def test_without_declarations_only_the_default_queue_need_not_be_declared(
    app: Celery,
) -> None:
    app.conf.task_create_missing_queues = False

    assert queue_of(app, "a") == "celery"
    with pytest.raises(QueueNotFound):
        queue_of(app, "a", queue="nope")


def test_a_queue_may_have_a_second_name(app: Celery) -> None:
    app.conf.task_queues = [Queue("mail", alias="post")]

    assert queue_of(app, "a", queue="post") == "mail"


def test_queues_may_be_declared_as_dicts(app: Celery) -> None:
    app.conf.task_queues = {"mail": {"exchange": "post", "routing_key": "letters"}}

    assert queue_of(app, "a", exchange="post", routing_key="letters") == "mail"


def test_a_broadcast_is_refused_with_what_to_do_instead(app: Celery) -> None:
    app.conf.task_queues = [Broadcast("everyone")]

    with pytest.raises(ImproperlyConfigured, match=r"control\.broadcast"):
        queue_of(app, "a", queue="everyone")


# ── exchanges and routing keys choose among declared queues, as a broker would ──────────


@pytest.fixture
def media(app: Celery) -> Celery:
    exchange = Exchange("media", type="topic")
    app.conf.task_queues = [
        Queue("celery"),
        Queue("video", exchange, routing_key="media.video.#"),
        Queue("image", exchange, routing_key="*.image"),
        Queue("direct", Exchange("plain"), routing_key="a.key"),
        Queue("all", Exchange("fan", type="fanout")),
    ]
    return app


@pytest.mark.parametrize(
    ("exchange", "key", "queue"),
    [
        ("media", "media.video", "video"),
        ("media", "media.video.compress.fast", "video"),
        ("media", "thumbnail.image", "image"),
        ("plain", "a.key", "direct"),
        ("fan", "whatever", "all"),
        ("celery", None, "celery"),
        (None, "celery", "celery"),
        (Exchange("plain"), "a.key", "direct"),
    ],
)
def test_exchange_and_key_lead_to_the_queue_bound_to_them(
    media: Celery, exchange: Any, key: Any, queue: str
) -> None:
    assert queue_of(media, "a", exchange=exchange, routing_key=key) == queue


@pytest.mark.parametrize(
    ("exchange", "key"),
    [("media", "media.audio"), ("media", "a.b.image"), ("plain", "other")],
)
def test_what_a_broker_would_drop_is_an_error(
    media: Celery, exchange: str, key: str
) -> None:
    with pytest.raises(QueueNotFound, match="broker would drop"):
        queue_of(media, "a", exchange=exchange, routing_key=key)


def test_a_queue_that_is_named_outright_wins_over_a_key_bound_to_none(
    media: Celery,
) -> None:
    assert queue_of(media, "a", queue="video", routing_key="import") == "video"


def test_a_queue_that_exists_by_being_named_has_an_exchange_of_its_name(
    app: Celery,
) -> None:
    assert queue_of(app, "a", exchange="feeds") == "feeds"
    assert queue_of(app, "a", exchange="feeds", routing_key="feeds") == "feeds"
    assert queue_of(app, "a", queue="feeds", routing_key="feeds.import") == "feeds"
    with pytest.raises(QueueNotFound):
        queue_of(app, "a", exchange="feeds", routing_key="other")


def test_routing_by_name_does_not_load_kombu() -> None:
    code = (
        "import sys\nfrom pgtasks import Celery\n"
        "app = Celery(broker='postgresql:///x')\n"
        "app.conf.task_routes = {'a.*': {'queue': 'alpha', 'priority': 1}}\n"
        "assert app.amqp.router.destination({}, 'a.b') == {'queue': 'alpha', 'priority': 1}\n"
        "assert app.amqp.router.destination({'queue': 'q'}, 'x') == {'queue': 'q'}\n"
        "sys.exit('kombu' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ── declarations ────────────────────────────────────────────────────────────────────────


def test_the_default_queue_is_declared_where_none_is(app: Celery) -> None:
    app.conf.update(task_default_queue="usual", task_default_exchange="x")

    (queue,) = app.amqp.queues.values()

    assert (queue.name, queue.exchange.name, queue.routing_key) == ("usual", "x", "usual")
    assert app.amqp.default_queue is queue


def test_declared_queues_are_completed() -> None:
    queues = Queues(
        [Queue("a"), Queue("b", routing_key="k", queue_arguments={"x-max-priority": 3})],
        default_exchange=Exchange("default"),
        default_routing_key="key",
        max_priority=10,
    )

    assert [q.exchange.name for q in queues.values()] == ["default", "default"]
    assert [q.routing_key for q in queues.values()] == ["key", "k"]
    assert [q.queue_arguments["x-max-priority"] for q in queues.values()] == [10, 3]


def test_a_queue_comes_into_being_when_it_is_looked_up() -> None:
    queues = Queues(create_missing=True)

    assert queues["new"].exchange == Exchange("new")
    assert "new" in queues
    with pytest.raises(KeyError):
        Queues(create_missing=False)["new"]


@pytest.mark.parametrize(("kind", "arguments"), [("classic", None), ("quorum", "quorum")])
def test_such_a_queue_has_the_type_that_is_wanted(kind: str, arguments: Any) -> None:
    queues = Queues(
        create_missing_queue_type=kind, create_missing_queue_exchange_type="topic"
    )

    queue = queues["new"]

    assert (queue.queue_arguments or {}).get("x-queue-type") == arguments
    assert queue.exchange.type == "topic"
    with pytest.raises(ValueError, match="Invalid queue type 'odd'"):
        Queues(create_missing_queue_type="odd")["new"]


def test_a_worker_serves_what_is_selected() -> None:
    queues = Queues([Queue("a"), Queue("b", alias="second"), Queue("c")])
    assert set(queues.consume_from) == {"a", "b", "c"}

    queues.deselect("second")
    assert set(queues.consume_from) == {"a", "c"}

    queues.select(["a", "second"])
    assert set(queues.consume_from) == {"a", "b"}

    queues.select_add("d")
    queues.deselect(["a", "no such queue"])
    assert set(queues.consume_from) == {"b", "d"}

    queues.select(None)
    assert set(queues.consume_from) == {"b", "d"}


def test_a_queue_that_was_looked_up_is_not_served() -> None:
    queues = Queues([Queue("a")])

    assert queues["by.name"]

    assert set(queues.consume_from) == {"a"}


def test_the_queues_can_be_shown() -> None:
    queues = Queues(
        [Queue("b", Exchange("x"), routing_key="k"), Queue("a", Exchange("y"), "k")]
    )

    assert queues.format(indent=2).splitlines() == [
        "  .> a                exchange=y(direct) key=k",
        "  .> b                exchange=x(direct) key=k",
    ]
    assert queues.format(indent=2, indent_first=False).startswith(".> a")
    assert Queues().format() == ""


def test_the_application_selects_queues(app: Celery) -> None:
    app.select_queues(["a", "b"])

    assert set(app.amqp.queues.consume_from) == {"a", "b"}


def test_keys_of_bytes_become_text() -> None:
    assert utf8dict({b"a": 1, "b": 2}) == {"a": 1, "b": 2}
