"""Tasks: what the decorator makes, what may be called, and what is refused at the call."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from pgtasks import Celery, Task, exceptions
from pgtasks.app import context, task, trace
from pgtasks.app.memory import queue_of
from pgtasks.exceptions import CDeprecationWarning
from pgtasks.result import EagerResult


@pytest.fixture
def app(each_app):
    return each_app


def test_a_task_called_as_a_function_is_a_function(memory_app):
    @memory_app.task
    def add(x, y=1):
        return x + y

    assert add(2, y=3) == 5
    assert add.run(2) == 3


def test_an_unknown_option_becomes_an_attribute(memory_app):
    @memory_app.task(flavour="vanilla", max_retries=7)
    def serve():
        pass

    assert serve.flavour == "vanilla"
    assert serve.max_retries == 7


def test_an_attribute_that_is_none_takes_its_setting_when_the_task_is_bound(memory_app):
    memory_app.conf.update(task_time_limit=60, task_acks_late=True, task_default_priority=4)

    @memory_app.task(time_limit=10)
    def quick():
        pass

    assert (quick.time_limit, quick.acks_late, quick.priority) == (10, True, 4)
    memory_app.conf.task_acks_late = False
    assert quick.acks_late is True


def test_annotations_change_attributes_and_decorate_methods(memory_app):
    def loudly(run):
        return lambda self, word: run(word).upper()

    memory_app.conf.task_annotations = {
        "*": {"rate_limit": "1/s"},
        "tests.say": {"max_retries": 9, "@run": loudly},
    }

    @memory_app.task(name="tests.say")
    def say(word):
        return word

    assert (say.rate_limit, say.max_retries, say("hello")) == ("1/s", 9, "HELLO")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_retries", -1),
        ("max_attempts", 0),
        ("rate_limit", "ten/min"),
        ("rate_limit", "10/fortnight"),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_the_decoration(memory_app, option, value):
    with pytest.raises(ValueError, match=option):

        @memory_app.task(lazy=False, **{option: value})
        def task():
            pass


def test_routing_by_attribute_works_and_warns(memory_app):
    with pytest.warns(CDeprecationWarning, match="'queue' task attribute"):

        @memory_app.task(queue="mail", lazy=False)
        def send():
            pass

    send.delay()
    assert [job.queue for job in queue_of(memory_app).waiting()] == ["mail"]


# ── arguments are checked at the call ───────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1, 2), {"y": 2})],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call(memory_app, args, kwargs):
    @memory_app.task
    def add(x, y):
        return x + y

    with pytest.raises(TypeError):
        add.delay(*args, **kwargs)
    assert not queue_of(memory_app).waiting()


def test_a_bound_task_hides_its_self_from_callers(memory_app):
    @memory_app.task(bind=True)
    def tell(self, word):
        return word

    tell.delay("yes")
    with pytest.raises(TypeError):
        tell.delay(self=1)


def test_the_check_can_be_left_to_the_task_itself(memory_app, desk):
    @memory_app.task(typing=False)
    def add(x, y):
        return x + y

    result = add.delay(1)
    desk(memory_app).work_off()

    with pytest.raises(TypeError):
        result.get(timeout=5)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ("ab", None, "list or tuple"),
        (5, None, "list or tuple"),
        (None, [1], "must be a mapping"),
        (None, {1: 2}, "text as keys"),
    ],
)
def test_args_and_kwargs_must_be_what_they_are_called(memory_app, args, kwargs, words):
    @memory_app.task(typing=False)
    def anything(*args, **kwargs):
        pass

    with pytest.raises(TypeError, match=words):
        anything.apply_async(args, kwargs)


def test_a_soft_limit_beyond_the_hard_one_is_refused_at_the_call(memory_app):
    @memory_app.task(soft_time_limit=5, time_limit=3)
    def slow():
        pass

    with pytest.raises(ValueError, match="soft_time_limit must be less"):
        slow.apply_async()


def test_sending_leaves_the_callers_own_objects_alone(memory_app):
    @memory_app.task(typing=False)
    def anything(*args, **kwargs):
        pass

    headers, kwargs, options = {"a": 1}, {"x": 1}, {"priority": 3, "tags": ["b"]}
    before = copy.deepcopy((headers, kwargs, options, anything._get_exec_options()))
    anything.apply_async((), kwargs, headers=headers, **options)

    assert (headers, kwargs, options, anything._get_exec_options()) == before


# ── classes ─────────────────────────────────────────────────────────────────────────────


def test_a_base_class_can_replace_apply_async_under_delay(memory_app):
    class Tagged(Task):
        def apply_async(self, args=None, kwargs=None, *rest, **options):
            options["headers"] = {"tenant": "blue"}
            return super().apply_async(args, kwargs, *rest, **options)

    @memory_app.task(base=Tagged)
    def add(x, y):
        return x + y

    add.delay(1, 2)
    assert '"tenant": "blue"' in queue_of(memory_app).waiting()[0].headers


def test_a_task_may_be_written_as_a_class(app, desk):
    class Greet(Task):
        name = "tests.greet"

        def run(self, whom):
            return f"hello {whom} from {self.request.id}"

    greet = app.register_task(Greet())
    result = greet.delay("you")
    desk(app).work_off()

    assert result.get(timeout=5) == f"hello you from {result.id}"


def test_a_call_method_of_ones_own_is_honoured_and_pushes_no_second_request(app, desk):
    class Counted(Task):
        calls = 0

        def __call__(self, *args, **kwargs):
            type(self).calls += 1
            return super().__call__(*args, **kwargs)

    @app.task(base=Counted, bind=True)
    def who(self):
        return self.request.id, self.request.called_directly

    result = who.delay()
    desk(app).work_off()

    assert result.get(timeout=5) == [result.id, False]
    assert type(who._get_current_object()).calls == 1


def test_what_the_task_module_of_celery_has_is_in_ours():
    assert (task.Context, task.TaskType) == (context.Context, type)
    assert task.get_actual_ignore_result is trace.get_actual_ignore_result
    assert "x-death" in task.X_DEATH_HEADERS


def test_a_task_pickles_as_its_name(memory_app):
    @memory_app.task(name="tests.named")
    def named():
        pass

    memory_app.set_current()
    assert (
        pickle.loads(pickle.dumps(named._get_current_object()))
        is memory_app.tasks["tests.named"]
    )


# ── the request ─────────────────────────────────────────────────────────────────────────


def test_a_task_called_directly_has_a_request_that_says_so(memory_app):
    @memory_app.task(bind=True)
    def look(self, x):
        return self.request.called_directly, self.request.args

    assert look(1) == (True, (1,))
    assert look.request.args is None


def test_each_thread_sees_its_own_request(memory_app):
    @memory_app.task(bind=True)
    def look(self, gate):
        gate.wait(5)
        return self.request.args

    gates = [threading.Event() for _ in range(2)]
    seen = {}
    threads = [
        threading.Thread(target=lambda g=gate: seen.setdefault(id(g), look(g)))
        for gate in gates
    ]
    for thread in threads:
        thread.start()
    for gate in reversed(gates):
        gate.set()
    for thread in threads:
        thread.join(5)

    assert [seen[id(gate)] for gate in gates] == [(gate,) for gate in gates]


def test_the_request_shows_what_the_caller_said(app, desk):
    seen = {}

    @app.task(bind=True, ignore_result=True)
    def look(self, x, y=None):
        seen.update(vars(self.request))
        seen["tenant"] = self.request.tenant

    result = look.apply_async(
        (1,),
        {"y": 2},
        priority=3,
        expires=600,
        headers={"tenant": "blue"},
        app_id="shop",
        shadow="peep",
        time_limit=30,
        soft_time_limit=20,
    )
    desk(app).work_off()

    assert (seen["id"], seen["root_id"], seen["task"]) == (result.id, result.id, look.name)
    assert (seen["args"], seen["kwargs"]) == ([1], {"y": 2})
    assert seen["delivery_info"] == {
        "exchange": "",
        "routing_key": "celery",
        "priority": 3,
        "redelivered": False,
    }
    assert (seen["headers"], seen["tenant"]) == ({"tenant": "blue"}, "blue")
    assert seen["properties"]["app_id"] == "shop"
    assert seen["timelimit"] == [30, 20]
    assert (seen["time_limit"], seen["soft_time_limit"]) == (30, 20)
    assert (seen["hostname"], seen["shadow"]) == ("celery@desk", "peep")
    assert (seen["retries"], seen["attempt"]) == (0, 1)
    assert "T" in seen["expires"]
    assert (seen["called_directly"], seen["is_eager"]) == (False, False)


def test_the_request_shows_meta_and_tags(app, desk):
    seen = []

    @app.task(bind=True, max_retries=1)
    def look(self):
        seen.append((dict(self.request.meta), list(self.request.tags)))
        if "customer" in self.request.meta and not self.request.retries:
            self.retry(countdown=0)

    look.apply_async(meta={"customer": 7, "of": ["a"]}, tags=["blue", "Big"])
    look.delay()
    look.apply_async(headers={"meta": {"mine": 1}, "tags": ["own"]})
    desk(app).work_off()

    meta = {"customer": 7, "of": ["a"]}
    assert seen.count((meta, ["blue", "Big"])) == 2, "once more with the retry"
    assert ({}, []) in seen
    assert ({"mine": 1}, ["own"]) in seen
    assert len(seen) == 4


def test_the_request_shows_its_arguments_or_what_the_caller_shows_of_them(app, desk):
    seen = []

    @app.task(bind=True)
    def pay(self, card, amount=0):
        seen.append((self.request.argsrepr, self.request.kwargsrepr))

    pay.apply_async(("4111",), {"amount": 2})
    pay.apply_async(("4111",), argsrepr="('***',)", kwargsrepr="{}")
    pay.apply(("x" * 5000,))
    desk(app).work_off()

    eager, *sent = seen
    assert sent == [("['4111']", "{'amount': 2}"), ("('***',)", "{}")]
    assert len(eager[0]) < 1100


def test_a_header_that_was_not_sent_is_missed_by_name(memory_app):
    @memory_app.task(bind=True)
    def look(self):
        assert self.request.get("tenant") is None
        assert not hasattr(self.request, "tenant")
        return self.request.tenant

    with pytest.raises(AttributeError, match=r"'tenant'.*without a header of that name"):
        look()


def test_a_header_cannot_take_the_place_of_what_the_request_needs(app, desk):
    ids = []

    @app.task(bind=True)
    def look(self):
        ids.append((self.request.id, self.request.retries))

    result = look.apply_async(headers={"id": "other", "retries": 7})
    desk(app).work_off()

    assert ids == [(result.id, 0)]


def test_what_a_task_sends_has_it_as_parent_and_the_first_as_root(app, desk):
    seen = {}

    @app.task(bind=True)
    def leaf(self):
        seen["leaf"] = (self.request.parent_id, self.request.root_id)

    @app.task(bind=True)
    def branch(self):
        leaf.delay()
        seen["branch"] = (self.request.parent_id, self.request.root_id, self.request.id)

    @app.task
    def root():
        branch.delay()

    result = root.delay()
    desk(app).work_off()

    assert seen["branch"][:2] == (result.id, result.id)
    assert seen["leaf"] == (seen["branch"][2], result.id)


def test_an_exception_class_that_callers_catch_is_kombus(memory_app):
    import kombu.exceptions

    assert Task.OperationalError is kombu.exceptions.OperationalError
    assert memory_app.Task.MaxRetriesExceededError is exceptions.MaxRetriesExceededError


def test_sending_an_event_without_monitors_is_no_error(memory_app):
    @memory_app.task
    def quiet():
        pass

    assert quiet.send_event("task-custom", x=1) is None


def test_a_task_runs_eagerly_where_the_setting_says_so(memory_app):
    memory_app.conf.task_always_eager = True

    @memory_app.task
    def add(x, y):
        return x + y

    result = add.delay(2, 2)
    assert isinstance(result, EagerResult)
    assert result.get() == 4


def test_a_subclass_of_the_application_may_bring_its_own_task_class(memory_app):
    class Base(Task):
        flavour = "mine"

    with Celery("other", task_cls=Base, broker="memory://", set_as_current=False) as app:

        @app.task
        def task():
            pass

        assert task.flavour == "mine"
        assert isinstance(task._get_current_object(), Base)


def test_looking_at_the_class_of_all_tasks_does_not_bind_it(make_app):
    first = make_app(task_serializer="pickle", accept_content=["pickle"])
    first.set_current()
    assert Task.app is not None

    assert Task.serializer is None
    assert make_app().task(lambda: None, name="plain").serializer == "json"
