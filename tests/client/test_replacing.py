"""Tasks that have another take their place, or that add members to their chord."""

from __future__ import annotations

import pytest

from pgtasks import Task, chain, chord, group
from pgtasks.exceptions import Ignore, ImproperlyConfigured

#: Not where everything runs at once.
queued = pytest.mark.parametrize("app", ["memory", "postgres"], indirect=True)


@pytest.fixture(params=["memory", "postgres", "eager"])
def app(request):
    if request.param == "eager":
        app = request.getfixturevalue("memory_app")
        app.conf.update(task_always_eager=True, task_store_eager_result=True)
        return app
    return request.getfixturevalue(f"{request.param}_app")


@pytest.fixture
def calls():
    return []


@pytest.fixture
def add(app, calls):
    @app.task(name="tests.add", bind=True)
    def add(self, x, y):
        calls.append((x, y, self.request.replaced_task_nesting))
        return x + y

    return add


@pytest.fixture
def total(app):
    @app.task(name="tests.total")
    def total(numbers):
        return sum(numbers)

    return total


@pytest.fixture
def become(app):
    """A task that replaces itself with what the test says."""

    @app.task(name="tests.become", bind=True)
    def become(self, *args):
        return self.replace(become.now(*args))

    return become


@pytest.fixture
def run(app, desk):
    def run(flow):
        result = flow.apply_async()
        if not app.conf.task_always_eager:
            desk(app).work_off()
        return result.get(timeout=10)

    return run


def test_the_result_is_that_of_the_replacement(run, add, total, become):
    become.now = lambda: add.s(1, 2)
    assert run(become.s()) == 3
    become.now = lambda: add.s(1, 2) | add.s(3)
    assert run(become.s()) == 6
    become.now = lambda: group(add.s(1, 1), add.s(2, 2))
    assert run(become.s()) == [2, 4]
    become.now = lambda: add.s(1, 1) | group(add.s(1), add.s(2))
    assert run(become.s()) == [3, 4]
    become.now = lambda: chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert run(become.s()) == 6


def test_what_followed_the_task_follows_its_replacement(run, add, total, become, calls):
    become.now = lambda: add.s(1, 2)
    assert run(become.s() | add.s(10) | add.s(100)) == 113
    become.now = lambda: add.s(1, 2) | add.s(3)
    assert run(become.s() | add.s(10) | add.s(100)) == 116
    become.now = lambda: chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert run(become.s() | add.s(10)) == 16
    become.now = lambda: group(add.s(1, 1), add.s(2, 2))
    assert run(become.s() | total.s()) == 6


def test_a_replaced_member_of_a_chord_counts_as_its_replacement(run, add, total, become):
    become.now = lambda: add.s(1, 2) | add.s(3)
    assert run(chord([become.s(), add.s(10, 10)], total.s())) == 26
    become.now = lambda: chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert run(chord([add.s(10, 10), become.s()], total.s())) == 26
    become.now = lambda: add.s(1, 2)
    assert run(chord([become.s() | add.s(5), become.s()], total.s())) == 11


def test_callbacks_of_the_task_are_its_replacements(run, app, add, become, calls):
    become.now = lambda: add.s(1, 2) | add.s(3)
    sig = become.s()
    sig.link(add.s(100))
    run(sig)

    assert [call[:2] for call in calls] == [(1, 2), (3, 3), (6, 100)]


def test_a_replacement_may_be_replaced(app, run, add, become, calls):
    @app.task(name="tests.again", bind=True)
    def again(self, times):
        return self.replace(again.s(times - 1) if times else add.s(1, 2))

    assert run(again.s(3)) == 3
    expected = 0 if app.conf.task_always_eager else 4
    assert calls == [(1, 2, expected)]


@queued
def test_nothing_after_it_is_run_and_the_id_stays(app, desk, add, become, calls):

    @app.task(name="tests.first", bind=True)
    def first(self):
        self.replace(add.s(1, 2))
        calls.append("after")

    result = first.apply_async(task_id="the-id")
    desk(app).work_off()

    assert result.get(timeout=10) == 3
    assert [call[:2] for call in calls] == [(1, 2)]


def test_nothing_or_what_is_in_a_chord_cannot_take_its_place(app, add, total, become):
    header = group(add.s(1, 2), add.s(3, 4), app=app)
    header.freeze(chord=total.s())
    for replacement in (chain(app=app), header.tasks[0]):
        become.now = lambda replacement=replacement: replacement
        with pytest.raises(ImproperlyConfigured):
            become()


@queued
def test_a_task_called_as_a_function_sends_its_replacement(app, desk, add, become, calls):
    become.now = lambda: add.s(1, 2)
    with pytest.raises(Ignore):
        become()
    desk(app).work_off()
    assert [call[:2] for call in calls] == [(1, 2)]


def test_a_hook_sees_the_replacement_first(app, run, add, calls):
    class Stamping(Task):
        def on_replace(self, sig):
            sig.stamp(customer="7")
            return super().on_replace(sig)

    @app.task(name="tests.stamped", bind=True)
    def stamped(self):
        return self.request.stamps

    @app.task(name="tests.hooked", bind=True, base=Stamping)
    def hooked(self):
        return self.replace(stamped.s())

    stamps = run(hooked.s())
    assert stamps in ({"customer": "7"}, {"customer": ["7"]})


@queued
def test_members_can_be_added_to_a_running_chord(app, run, add, total, desk):

    @app.task(name="tests.more", bind=True)
    def more(self, number):
        self.add_to_chord(add.s(number, number))
        return number

    assert run(chord([more.s(1), add.s(2, 2)], total.s())) == 7


def test_only_members_of_a_chord_can_add_to_it(app, add):
    @app.task(name="tests.alone", bind=True)
    def alone(self):
        self.add_to_chord(add.s(1, 1))

    with pytest.raises(ValueError, match="not member of any chord"):
        alone()
