from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import typing
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from helpers import eventually
from pgtasks import Celery, _state, current_app, shared_task, signals
from pgtasks.app import base
from pgtasks.app.memory import queue_of
from pgtasks.app.registry import TaskRegistry
from pgtasks.app.task import Task
from pgtasks.app.utils import find_app
from pgtasks.exceptions import (
    DuplicateTaskNameWarning,
    ImproperlyConfigured,
    InvalidTaskError,
    NotRegistered,
)
from pgtasks.loaders.app import AppLoader
from pgtasks.utils.proxy import PromiseProxy, Proxy

Make = Callable[..., Celery]


class Pickled(Celery):
    """An application that pickles in Celery 3's way."""

    def __reduce_args__(self) -> tuple[Any, ...]:
        return super().__reduce_args__()


# ── defining tasks ──────────────────────────────────────────────────────────────────────


def test_a_task_is_made_when_it_is_used(app: Celery) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    assert type(add) is PromiseProxy
    assert not app.finalized
    assert not app.configured

    assert add(2, y=3) == 5
    assert add.name == f"{__name__}.add"
    assert isinstance(add, Task)
    assert app.tasks[add.name] is add._get_current_object()


def test_settings_may_follow_the_tasks(app: Celery) -> None:
    @app.task
    def add() -> None: ...

    app.conf.task_serializer = "pickle"

    assert add.serializer == "pickle"


def test_after_finalizing_a_task_is_made_at_once(app: Celery) -> None:
    app.finalize()

    @app.task
    def add() -> None: ...

    assert not isinstance(add, Proxy) and isinstance(add, Task)


def test_a_task_may_be_made_at_once(app: Celery) -> None:
    @app.task(lazy=False)
    def add() -> None: ...

    assert type(add) is not PromiseProxy


def test_options_become_attributes_whether_we_know_them_or_not(app: Celery) -> None:
    @app.task(name="shop.add", max_retries=7, my_own="mine")
    def add() -> None:
        """Adds."""

    assert (add.name, add.max_retries, add.my_own) == ("shop.add", 7, "mine")  # type: ignore[attr-defined]
    assert add.__doc__ == "Adds."
    assert (add.__name__, add.__module__) == ("add", __name__)


def test_with_bind_the_function_gets_the_task(app: Celery) -> None:
    @app.task(bind=True)
    def me(self: Any, x: int) -> Any:
        return self, x

    task, x = me(5)

    assert task == me
    assert x == 5


def test_a_task_may_have_a_base_of_its_own(app: Celery) -> None:
    class Base(Task[..., Any]):
        abstract = True
        greeting = "hello"

    @app.task(base=Base)
    def greet() -> None: ...

    assert isinstance(greet, Base)
    assert greet.greeting == "hello"


def test_the_base_of_all_tasks_may_be_given_by_name(make_app: Make) -> None:
    app = make_app(task_cls=f"{__name__}:Greeting")

    @app.task
    def greet() -> None: ...

    assert greet.greeting == "good day"  # type: ignore[attr-defined]


class Greeting(Task[..., Any]):
    abstract = True
    greeting = "good day"


def test_a_filter_gets_the_task_and_answers_what_to_use(app: Celery) -> None:
    seen = []

    @app.task(filter=lambda task: seen.append(task) or "instead")
    def add() -> None: ...

    assert add == "instead"
    assert len(seen) == 1


@pytest.mark.parametrize("arguments", [(1,), (len, True), ("name",), (len, 1, 2)])
def test_the_decorator_takes_one_function(app: Celery, arguments: Any) -> None:
    with pytest.raises(TypeError, match="by name"):
        app.task(*arguments)


def test_annotations_can_be_had_of_a_task(app: Celery) -> None:
    @app.task
    def add(x: int) -> None: ...

    assert typing.get_type_hints(add) == {"x": int, "return": type(None)}


def test_a_task_of_the_program_is_named_after_the_application(app: Celery) -> None:
    def add() -> None: ...

    add.__module__ = "__main__"

    assert app.task(add).name == "tests.add"


def test_names_may_be_made_in_another_way(make_app: Make) -> None:
    class Own(Celery):
        def gen_task_name(self, name: str, module: str) -> str:
            return f"own:{name}"

    with Own(set_as_current=False, broker="memory://") as app:

        @app.task
        def add() -> None: ...

        assert add.name == "own:add"


# ── names that are taken ────────────────────────────────────────────────────────────────


def scaler(app: Celery, factor: int, **options: Any) -> Any:
    @app.task(shared=False, **options)
    def scale(*args: int) -> int:
        return args[-1] * factor

    return scale


@pytest.mark.parametrize("options", [{}, {"bind": True}, {"name": "taken"}])
def test_another_function_of_the_same_name_is_warned_of_and_not_registered(
    app: Celery, options: dict[str, Any]
) -> None:
    double, triple = scaler(app, 2, **options), scaler(app, 3, **options)
    assert double(2) == 4

    with pytest.warns(DuplicateTaskNameWarning, match="not registered") as warned:
        assert triple(2) == 4

    assert warned[0].filename == __file__


def test_it_is_warned_of_once(app: Celery) -> None:
    with pytest.warns(DuplicateTaskNameWarning):
        assert len({scaler(app, factor).name for factor in range(3)}) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scaler(app, 9)(2) == 0


def test_the_same_function_again_is_silent(app: Celery) -> None:
    def plain() -> None: ...

    assert app._task_from_fun(plain) is app._task_from_fun(plain)


def test_a_class_takes_over_a_name_with_a_warning(app: Celery) -> None:
    @app.task(name="taken", shared=False)
    def decorated() -> str:
        return "old"

    class New(Task[..., Any]):
        name = "taken"

        def run(self) -> str:
            return "new"

    assert decorated() == "old"
    with pytest.warns(DuplicateTaskNameWarning, match="decorated.*replaced"):
        app.register_task(New())
    assert app.tasks["taken"]() == "new"


# ── class-based tasks ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("instance", [False, True])
def test_a_class_can_be_registered(app: Celery, instance: bool) -> None:
    class Add(Task[..., Any]):
        def run(self, x: int, y: int) -> int:
            return x + y

    task = app.register_task(Add() if instance else Add)

    assert task.name == f"{__name__}.Add"
    assert app.tasks[task.name] is task
    assert task(1, 2) == 3
    assert task.app is app


def test_the_registry_says_what_is_missing() -> None:
    registry = TaskRegistry()

    with pytest.raises(NotRegistered, match="imports"):
        registry["no.such.task"]
    with pytest.raises(NotRegistered):
        registry.unregister("no.such.task")


def test_the_registry_takes_tasks_with_names_only(app: Celery) -> None:
    class Nameless(Task[..., Any]):
        name = None

    with pytest.raises(InvalidTaskError, match="Nameless"):
        app.tasks.register(Nameless)


def test_tasks_can_be_taken_out_by_themselves_or_by_name(app: Celery) -> None:
    @app.task(type="periodic")
    def one() -> None: ...

    @app.task
    def two() -> None: ...

    assert set(app.tasks.periodic()) == {one.name}
    assert two.name in app.tasks.regular()

    app.tasks.unregister(one)
    app.tasks.unregister(two.name)

    assert not {one.name, two.name} & set(app.tasks)


# ── threads that look for a task while it is made ───────────────────────────────────────


class Watched(Task[..., Any]):
    """A base that lets a test look around while a task is bound."""

    abstract = True
    while_bound: Any = None

    @classmethod
    def on_bound(cls, app: Any) -> None:
        if cls.while_bound is not None:
            cls.while_bound(app)


@pytest.mark.parametrize("as_class", [False, True])
def test_a_task_is_registered_when_it_is_ready(app: Celery, as_class: bool) -> None:
    seen = []

    def look(app: Celery) -> None:
        with ThreadPoolExecutor(1) as threads:
            seen.append(threads.submit(app._tasks.get, "late").result())

    app.finalize()
    if as_class:

        class Late(Watched):
            name = "late"
            while_bound = staticmethod(look)

        app.register_task(Late())
    else:

        @app.task(name="late", base=Watched, while_bound=staticmethod(look))
        def late() -> None: ...

    assert seen == [None]
    assert app.tasks["late"].__bound__


def test_a_task_that_is_registered_retries_as_it_was_told_to(app: Celery) -> None:
    class Registry(TaskRegistry):
        def __setitem__(self, name: str, task: Any) -> None:
            if name == "again":
                ready.append((task.__bound__, hasattr(task, "_orig_run")))
            super().__setitem__(name, task)

    ready: list[Any] = []
    app._tasks = Registry(app._tasks)

    @app.task(name="again", autoretry_for=(ValueError,), lazy=False)
    def again() -> None: ...

    assert ready == [(True, True)]


def test_two_threads_that_make_the_same_task_get_the_same(app: Celery) -> None:
    both = threading.Barrier(2)

    def wait(app: Celery) -> None:
        both.wait(10)

    def make(_: int) -> Any:
        return app._task_from_fun(
            same, name="same", base=Watched, while_bound=staticmethod(wait)
        )

    def same() -> None: ...

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(make, range(2))

    assert one is other is app._tasks["same"]


def test_a_task_may_be_used_by_what_its_own_making_calls(app: Celery) -> None:
    @app.task
    def tick() -> None: ...

    def plan(sender: Celery, **kwargs: Any) -> None:
        sender.add_periodic_task(10, tick.s())

    # Called when the first setting is read, which is when the task is bound.
    app.on_after_configure.connect(plan, weak=False)

    assert tick.serializer == "json"
    assert app.tasks[tick.name] is tick._get_current_object()  # type: ignore[attr-defined]
    (entry,) = app.conf.beat_schedule.values()
    assert entry["task"] == tick.name


# ── finalizing ──────────────────────────────────────────────────────────────────────────


def test_finalizing_makes_all_tasks_and_tells(app: Celery) -> None:
    told: list[Any] = []
    app.on_after_finalize.connect(
        lambda sender, **kw: told.append(sorted(sender._tasks)), weak=False
    )

    @app.task(name="one")
    def one() -> None: ...

    app.finalize()
    app.finalize()

    assert len(told) == 1
    assert {"one", "celery.backend_cleanup", "celery.accumulate"} <= set(told[0])


def test_looking_at_the_tasks_finalizes(app: Celery) -> None:
    assert "celery.map" in app.tasks
    assert app.finalized


def test_finalizing_can_be_left_to_the_program(make_app: Make) -> None:
    app = make_app(autofinalize=False)

    @app.task
    def answer() -> int:
        return 42

    for use in (answer, lambda: app.tasks["x"]):
        with pytest.raises(RuntimeError, match=r"app\.finalize\(\)"):
            use()

    app.finalize()
    assert answer() == 42


def test_many_threads_make_a_task_once(app: Celery) -> None:
    @app.task
    def add() -> None: ...

    with ThreadPoolExecutor(8) as threads:
        made = {id(t) for t in threads.map(lambda _: app.tasks[add.name], range(64))}

    assert len(made) == 1


def test_reading_settings_and_finalizing_in_two_threads_do_not_wait_for_each_other(
    app: Celery,
) -> None:
    reading, finalizing = threading.Event(), threading.Event()

    def while_reading(sender: Celery, **kwargs: Any) -> None:
        reading.set()
        # Not reached in time if finalizing has to wait for us, as it should.
        finalizing.wait(0.2)
        assert sender.tasks

    def finalize() -> None:
        reading.wait(10)
        finalizing.set()
        app.finalize()

    app.on_after_configure.connect(while_reading)
    thread = threading.Thread(target=finalize)
    thread.start()
    assert app.conf.task_serializer == "json"
    thread.join(10)

    assert not thread.is_alive()


def test_a_thread_that_looks_at_the_tasks_waits_until_all_are_there(app: Celery) -> None:
    begun, looked = threading.Event(), threading.Event()
    seen: list[bool] = []

    def while_finalizing(sender: Celery, **kwargs: Any) -> None:
        begun.set()
        looked.wait(0.2)
        # Another thread asks for them as well, and must not keep us from them.
        assert sender.tasks is not None
        sender._tasks["late"] = None

    def look() -> None:
        begun.wait(10)
        looked.set()
        seen.append("late" in app.tasks)

    app.on_after_finalize.connect(while_finalizing)
    thread = threading.Thread(target=look)
    thread.start()
    app.finalize()
    thread.join(10)

    assert seen == [True]


def test_parts_that_two_threads_make_at_once_are_one(app: Celery) -> None:
    all_ready = threading.Barrier(8)

    def use(_: int) -> tuple[int, ...]:
        all_ready.wait()
        return tuple(map(id, (app.amqp, app.loader, app.Task, app.AsyncResult)))

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(use, range(8)))) == 1


def test_the_built_in_tasks_do_their_work(app: Celery) -> None:
    @app.task
    def double(x: int) -> int:
        return x * 2

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    assert app.tasks["celery.map"](double.s(), [1, 2]) == [2, 4]
    assert app.tasks["celery.starmap"](add.s(), [(1, 2), (3, 4)]) == [3, 7]
    assert app.tasks["celery.accumulate"](1, 2) == (1, 2)
    assert app.tasks["celery.accumulate"](1, 2, index=0) == 1


# ── shared tasks ────────────────────────────────────────────────────────────────────────


def test_a_shared_task_belongs_to_the_current_application(make_app: Make) -> None:
    first = make_app("first", set_as_current=True)
    first.finalize()

    @shared_task
    def one() -> str:
        return current_app.main or ""

    @shared_task(name="two", max_retries=7)
    def two() -> None: ...

    assert one.app is first
    assert one() == "first"

    later = make_app("later", set_as_current=True)
    assert one.app is later
    assert (two.app, two.name, two.max_retries) == (later, "two", 7)

    first.set_current()
    assert one.app is first


def test_sharing_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="more than once"):

        @shared_task
        @shared_task
        def foo() -> None: ...


def test_the_task_of_an_application_can_be_shared(make_app: Make) -> None:
    first = make_app("first", set_as_current=True)

    @shared_task
    @first.task
    def double(x: int) -> int:
        return x * 2

    assert double(3) == 6
    later = make_app("later", set_as_current=True)
    assert double.app is later
    assert double(4) == 8


def test_a_task_appears_in_other_applications_unless_it_is_private(make_app: Make) -> None:
    one, other = make_app(), make_app()

    @one.task(name="seen")
    def seen() -> None: ...

    @one.task(name="private", shared=False)
    def private() -> None: ...

    assert "seen" in other.tasks
    assert "private" not in other.tasks
    assert other.tasks["seen"].app is other


# ── periodic tasks ──────────────────────────────────────────────────────────────────────


def test_a_periodic_task_is_an_entry_of_the_schedule(app: Celery) -> None:
    @app.task
    def add(x: int, y: int) -> None: ...

    key = app.add_periodic_task(10, add.s(2, y=2), name="add", expires=3, queue="slow")

    assert key == "add"
    assert app.conf.beat_schedule == {
        "add": {
            "schedule": 10,
            "task": add.name,
            "args": (2,),
            "kwargs": {"y": 2},
            "options": {"expires": 3, "queue": "slow"},
        }
    }


def test_a_periodic_task_waits_for_the_configuration(app: Celery) -> None:
    app.add_periodic_task(10, app.signature("add", (2, 2)), name="early")
    app.config_from_object({"beat_schedule": {"configured": {}}})

    assert set(app.conf.beat_schedule) == {"configured", "early"}


def test_a_periodic_task_without_a_name_is_told_apart_by_what_it_calls(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def add(x: int, y: int) -> None: ...

    app.add_periodic_task(10, add.s(2, 2))
    app.add_periodic_task(10, add.s(3, 3))
    assert len(app.conf.beat_schedule) == 2
    assert caplog.records == []

    app.add_periodic_task(20, add.s(2, 2))
    assert len(app.conf.beat_schedule) == 2
    assert "shadowed" in caplog.text


def test_periodic_tasks_are_added_when_the_application_is_configured(app: Celery) -> None:
    @app.on_after_configure.connect
    def add_them(sender: Celery, **kwargs: Any) -> None:
        sender.add_periodic_task(10.0, sender.signature("x"), name="x")

    assert list(app.conf.beat_schedule) == ["x"]


# ── finding tasks ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def packages(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Packages with tasks, without, and with tasks that cannot be imported."""
    for name, text in {
        "good": "found = True",
        "none": None,
        "bad": "import not_there",
    }.items():
        (tmp_path / f"pkg_{name}").mkdir()
        (tmp_path / f"pkg_{name}" / "__init__.py").touch()
        if text:
            (tmp_path / f"pkg_{name}" / "tasks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return "pkg_"


@pytest.mark.parametrize("lazy", [False, True])
def test_tasks_are_found_when_the_modules_are_imported(
    app: Celery, packages: str, lazy: bool
) -> None:
    names = ["pkg_good", "pkg_none"]
    app.autodiscover_tasks((lambda: names) if lazy else names)
    assert app.loader.task_modules == set()

    app.loader.import_default_modules()

    assert app.loader.task_modules == {"pkg_good.tasks"}


def test_tasks_are_found_for_the_application_that_asked(
    make_app: Make, packages: str
) -> None:
    one, other = make_app(), make_app()
    one.autodiscover_tasks(["pkg_good"])

    other.loader.import_default_modules()
    assert other.loader.task_modules == set()


def test_tasks_can_be_found_now_and_under_another_name(app: Celery, packages: str) -> None:
    app.autodiscover_tasks(["pkg_good"], force=True)
    assert app.loader.task_modules == {"pkg_good.tasks"}

    app.autodiscover_tasks(["pkg_good"], related_name=None, force=True)
    assert "pkg_good" in app.loader.task_modules


def test_a_module_of_tasks_that_cannot_be_imported_is_an_error(
    app: Celery, packages: str
) -> None:
    app.autodiscover_tasks(["pkg_bad"])

    with pytest.raises(ModuleNotFoundError, match="not_there"):
        app.loader.import_default_modules()


def test_without_packages_fixups_are_asked(make_app: Make, packages: str) -> None:
    class Fixup:
        def __init__(self, app: Celery) -> None:
            self.app = app

        def autodiscover_tasks(self) -> list[str]:
            return ["pkg_good"]

    app = make_app(fixups=[Fixup])
    app.autodiscover_tasks()

    app.loader.import_default_modules()

    assert app.loader.task_modules == {"pkg_good.tasks"}


def test_include_and_imports_are_imported(make_app: Make, packages: str) -> None:
    app = make_app(include=["pkg_good.tasks"], imports=("pkg_none",))

    app.loader.import_default_modules()

    assert app.loader.task_modules == {"pkg_good.tasks", "pkg_none"}


# ── time ────────────────────────────────────────────────────────────────────────────────


def test_time_is_utc_unless_told_otherwise(app: Celery) -> None:
    assert app.uses_utc_timezone()
    assert app.now().utcoffset() == datetime.now(timezone.utc).utcoffset()

    app.conf.timezone = "America/New_York"
    del app.timezone
    assert not app.uses_utc_timezone()
    assert str(app.timezone) == "America/New_York"
    assert app.now().tzinfo == app.timezone
    assert abs((app.now() - datetime.now(timezone.utc)).total_seconds()) < 5


def test_the_zone_can_be_looked_up_again_though_it_never_was(app: Celery) -> None:
    del app.timezone
    del app.timezone

    assert app.uses_utc_timezone()


# ── signing ─────────────────────────────────────────────────────────────────────────────


def test_signing_is_set_up_by_the_application(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    module: Any = ModuleType("pgtasks.security")
    module.setup_security = lambda *args, **kwargs: heard.append((args, kwargs))
    monkeypatch.setitem(sys.modules, "pgtasks.security", module)

    app.setup_security({"json"}, key="k.pem", cert="c.pem", store="*.pem")

    arguments = ({"json"}, "k.pem", None, "c.pem", "*.pem", None, "json")
    assert heard == [(arguments, {"app": app})]


# ── pickling ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cls", [Celery, Pickled])
@pytest.mark.parametrize("configured", [False, True])
def test_an_application_is_pickled_as_what_the_program_has_set(
    cls: type[Celery], configured: bool
) -> None:
    app = cls("shop", broker="memory://", set_as_current=False, foo="bar")
    app.conf.worker_concurrency = 3
    app.config_from_object({"worker_pool": "solo"})
    app.add_defaults({"a_default": 1})
    if configured or cls is Pickled:
        assert app.conf.worker_pool == "solo"

    again = pickle.loads(pickle.dumps(app))

    assert type(again) is cls
    assert again.main == "shop"
    assert (again.conf.worker_concurrency, again.conf.foo) == (3, "bar")
    assert again.conf.worker_pool == "solo"
    assert "a_default" not in again.conf
    assert current_app != again


def test_an_application_is_small_when_pickled(app: Celery) -> None:
    assert app.conf.task_serializer == "json"

    assert len(pickle.dumps(app)) < 2048


def test_a_configuration_that_may_be_missing_may_be_missing_elsewhere(app: Celery) -> None:
    app.config_from_object("no_such_module_at_all", silent=True)

    assert pickle.loads(pickle.dumps(app)).conf.worker_pool == "prefork"


def test_classes_of_an_application_are_pickled_for_the_current_one(make_app: Make) -> None:
    current, other = make_app(set_as_current=True), make_app()

    again = pickle.loads(pickle.dumps(other.AsyncResult("an-id")))

    assert again.id == "an-id"
    assert again.app == current


# ── forks, threads and the end ──────────────────────────────────────────────────────────


def test_an_application_that_is_let_go_of_is_collected(make_app: Make) -> None:
    app = Celery(set_as_current=False, broker="memory://")
    assert app.conf.task_serializer == "json"
    reference = weakref.ref(app)

    del app
    gc.collect()

    assert reference() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_is_told(app: Celery) -> None:
    read, write = os.pipe()
    app.on_after_fork.connect(lambda **kw: os.write(write, b"told"), weak=False)

    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

    os.close(write)
    assert os.read(read, 10) == b"told"
    os.close(read)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_can_read_settings_though_a_thread_was_reading(
    app: Celery,
) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with app.conf._lock:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # from 3.12 on: that is the test
        child = os.fork()
    if child == 0:
        os._exit(0 if app.conf.task_serializer == "json" else 1)
    release.set()
    thread.join()

    ended = []

    def has_ended() -> bool:
        ended[:] = os.waitpid(child, os.WNOHANG)
        return ended[0] == child

    eventually(has_ended, timeout=10)
    assert ended[1] == 0


def test_what_fails_after_a_fork_is_logged(
    app: Celery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise KeyError("x")

    monkeypatch.setattr(app, "_after_fork", fail)

    with caplog.at_level("INFO"):
        base._after_fork_cleanup_app(app)

    assert "KeyError('x')" in caplog.text


def test_an_application_has_an_id_in_this_process_and_one_in_each_thread(
    app: Celery,
) -> None:
    with ThreadPoolExecutor(1) as threads:
        elsewhere = threads.submit(lambda: (app.oid, app.thread_oid)).result()

    assert UUID(app.oid)
    assert app.oid == elsewhere[0]
    assert app.thread_oid == app.thread_oid != elsewhere[1]


# ── what it costs ───────────────────────────────────────────────────────────────────────


def test_an_application_with_tasks_loads_neither_what_makes_nor_what_sends_them() -> None:
    program = (
        "import sys\n"
        "from pgtasks import Celery\n"
        "app = Celery('x', broker='memory://')\n"
        "@app.task\n"
        "def add(x, y): return x + y\n"
        "app.conf.task_routes = {}\n"
        "app.autodiscover_tasks\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    loaded = set(done.stdout.split())
    assert "pgtasks.app.base" in loaded
    assert not loaded & {
        "inspect", "dataclasses", "decimal", "json", "pickle", "socket", "urllib.parse",
        "zoneinfo", "pgtasks.app.publish", "pgtasks.app.task", "pgtasks.signals",
    }  # fmt: skip


# ── parts ───────────────────────────────────────────────────────────────────────────────


def test_parts_are_made_of_classes_or_their_names(make_app: Make) -> None:
    class Log:
        def __init__(self, app: Celery) -> None:
            self.app = app

    app = make_app(log=Log, loader=AppLoader, amqp="pgtasks.app.amqp:AMQP")

    assert type(app.log) is Log
    assert app.log.app is app
    assert type(app.loader) is AppLoader
    assert app.amqp.app is app


def test_a_part_that_cannot_be_made_says_why(make_app: Make) -> None:
    class Broken:
        def __init__(self, app: Celery) -> None:
            raise AttributeError("no such thing as a broken part")

    with pytest.raises(AttributeError, match="no such thing as a broken part"):
        make_app(control=Broken).control  # noqa: B018


def test_the_loader_may_be_named_in_the_environment(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_LOADER", "default")

    assert type(make_app().loader).__module__ == "pgtasks.loaders.default"


def test_a_fixup_that_cannot_be_imported_is_an_error(make_app: Make) -> None:
    with pytest.raises(ModuleNotFoundError):
        make_app(fixups=["no_such_module_at_all:fixup"])


def test_results_belong_to_the_application(app: Celery) -> None:
    assert app.AsyncResult("x").app is app
    assert app.GroupResult("x", []).app is app
    assert app.ResultSet([]).app is app


def test_signatures_belong_to_the_application(app: Celery) -> None:
    assert app.signature("foo", (1, 2)).app is app


def test_a_bug_report_tells_what_it_runs_on_and_no_secrets(make_app: Make) -> None:
    report = make_app(broker="amqp://u:hunter2@h//", worker_pool="solo").bugreport()

    for word in (
        "pgtasks:",
        "py:",
        "psycopg:",
        "worker_pool: 'solo'",
        "amqp://u:********@h",
    ):
        assert word in report
    assert "hunter2" not in report


def test_a_value_or_else_the_setting(app: Celery) -> None:
    assert app.either("task_default_queue", None, "mail") == "mail"
    assert app.either("task_default_queue", None) == "celery"
    assert app.either("worker_lease", 0) == 0


def test_a_worker_needs_its_command(app: Celery) -> None:
    with pytest.raises(ValueError, match="worker"):
        app.worker_main(["beat"])


def test_options_of_a_call_by_name_may_be_given_by_position_as_in_celery(
    app: Celery,
) -> None:
    by_name = app.send_task("some.task", group_id="g", retries=2, shadow="s")
    omitted = (None,) * 11
    app.send_task("some.task", (), {}, *omitted, True, "g", None, 2, *(None,) * 7, "s")

    first, second = queue_of(app).waiting()
    assert by_name.id == first.task_id
    assert (first.group_id, first.retries) == ("g", 2)
    assert (second.group_id, second.retries) == ("g", 2)
    assert second.headers == first.headers


def test_what_is_not_there_is_told_by_its_name(app: Celery) -> None:
    with pytest.raises(AttributeError, match=r"'no_such_thing'$"):
        app.no_such_thing  # type: ignore[attr-defined]  # noqa: B018


# ── where the application is found ──────────────────────────────────────────────────────


@pytest.fixture
def projects(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = "from pgtasks import Celery\n{} = Celery('{}', set_as_current=False)\n"
    files = {
        "proj_app.py": make.format("app", "app"),
        "proj_celery.py": make.format("celery", "celery"),
        "proj_other.py": make.format("queue", "other"),
        "proj_pkg/__init__.py": "",
        "proj_pkg/celery.py": make.format("app", "pkg"),
        "proj_broken/__init__.py": "",
        "proj_broken/celery.py": "import not_there",
        "proj_none.py": "x = 1",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("name", "main"),
    [
        ("proj_app", "app"),
        ("proj_app:app", "app"),
        ("proj_app.app", "app"),
        ("proj_celery", "celery"),
        ("proj_other", "other"),
        ("proj_pkg", "pkg"),
        ("proj_pkg.celery", "pkg"),
    ],
)
@pytest.mark.usefixtures("projects")
def test_an_application_is_found_by_name(name: str, main: str) -> None:
    assert find_app(name).main == main


@pytest.mark.usefixtures("projects")
def test_a_module_without_an_application_is_told_as_such() -> None:
    with pytest.raises(AttributeError, match="proj_none"):
        find_app("proj_none")
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        find_app("proj_broken")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        find_app("no_such_module_at_all")


# ── result backends ─────────────────────────────────────────────────────────────────────


def test_a_backend_by_its_class(make_app: Make) -> None:
    from pgtasks.backends.base import BaseBackend

    app = make_app(backend=BaseBackend)

    assert type(app.backend) is BaseBackend
    assert app.backend is app.backend


@pytest.mark.parametrize(
    ("broker", "backend", "name"),
    [
        ("memory://", "cache+memory://", "MemoryBackend"),
        ("memory://", None, "MemoryBackend"),
        ("memory://", "disabled://", "DisabledBackend"),
        ("postgresql:///x", None, "PostgresBackend"),
        ("postgresql:///x", "postgresql:///x", "PostgresBackend"),
        ("postgresql:///x", "db+postgresql://u@h/x", "PostgresBackend"),
        ("postgresql:///x", "pgtasks.backends.memory:MemoryBackend", "MemoryBackend"),
    ],
)
def test_a_backend_by_its_name(
    make_app: Make, broker: str, backend: Any, name: str
) -> None:
    assert type(make_app(broker=broker, backend=backend).backend).__name__ == name


def test_another_store_stands_for_postgresql_which_is_said_once(
    make_app: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgtasks.app import backends

    monkeypatch.setattr(backends, "_told", set())
    for _ in range(2):
        app = make_app(broker="postgresql:///x", backend="redis://h/1")
        assert type(app.backend).__name__ == "PostgresBackend"

    assert [record.getMessage().count("Redis") for record in caplog.records] == [1]


def test_an_unknown_backend_is_told_with_the_nearest(make_app: Make) -> None:
    with pytest.raises(ImproperlyConfigured, match="Did you mean 'rediss'"):
        make_app(backend="rediss3://h").backend  # noqa: B018
    with pytest.raises(ImproperlyConfigured, match="a module"):
        make_app(backend="pgtasks.backends").backend  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        make_app(backend="no_such_module_at_all:Backend").backend  # noqa: B018


# ── signals of the application ──────────────────────────────────────────────────────────


def test_importing_modules_fails_if_a_receiver_does(app: Celery) -> None:
    def fail(**kwargs: Any) -> None:
        raise ImportError("on purpose")

    signals.import_modules.connect(fail, sender=app)

    with pytest.raises(ImportError, match="on purpose"):
        app.loader.import_default_modules()


def test_on_configure_may_be_a_method(make_app: Make) -> None:
    called = []

    class Own(Celery):
        def on_configure(self) -> None:
            called.append(self)

    with Own(set_as_current=False, broker="memory://") as app:
        assert app.conf.task_serializer == "json"
        assert called == [app]


def test_making_an_application_calls_on_init(make_app: Make) -> None:
    class Own(Celery):
        def on_init(self) -> None:
            self.greeting = "hello"

    assert Own(set_as_current=False).greeting == "hello"


def test_the_state_module_and_the_application_agree(app: Celery) -> None:
    app.set_current()
    app.set_default()

    assert _state.get_current_app() is app
    assert current_app == app
    assert app._get_current_object() is app
