"""Boot steps: who comes first, who is left out, and how all of them end."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import pytest

from pgtasks import bootsteps
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.utils.graph import CycleError


@pytest.fixture
def parent() -> SimpleNamespace:
    return SimpleNamespace(steps=[], heard=[])


class Speaking(bootsteps.StartStopStep):
    """A step that tells its parent what it is asked to do."""

    def start(self, parent):
        parent.heard.append(f"start {self.alias}")

    def close(self, parent):
        parent.heard.append(f"close {self.alias}")

    def stop(self, parent):
        parent.heard.append(f"stop {self.alias}")

    def terminate(self, parent):
        parent.heard.append(f"terminate {self.alias}")


class Database(Speaking):
    pass


class Cache(Speaking):
    requires = (Database,)


class Metrics(Speaking):
    requires = ("tests.vocabulary.test_bootsteps:Cache",)


class Last(Speaking):
    last = True


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Steps are required by name from the module that this is run as."""
    import sys

    monkeypatch.setitem(
        sys.modules, "tests.vocabulary.test_bootsteps", sys.modules[__name__]
    )


class TestABlueprint:
    def test_starts_steps_after_those_they_require_and_stops_them_before(self, parent):
        blueprint = bootsteps.Blueprint([Last, Metrics]).apply(parent)

        blueprint.start(parent)
        blueprint.stop(parent)

        names = ["Database", "Cache", "Metrics", "Last"]
        assert parent.heard == [
            *(f"start {name}" for name in names),
            *(f"close {name}" for name in names),
            *(f"stop {name}" for name in reversed(names)),
        ]
        assert blueprint.human_state() == "terminating"
        assert blueprint.shutdown_complete.is_set()

    def test_can_stop_at_once(self, parent):
        blueprint = bootsteps.Blueprint([Database]).apply(parent)
        blueprint.start(parent)

        blueprint.stop(parent, terminate=True)

        assert parent.heard[-1] == "terminate Database"

    def test_stops_once(self, parent):
        blueprint = bootsteps.Blueprint([Database]).apply(parent)
        blueprint.start(parent)

        blueprint.stop(parent)
        blueprint.stop(parent)

        assert parent.heard.count("stop Database") == 1

    def test_that_has_not_started_has_nothing_to_stop(self, parent):
        blueprint = bootsteps.Blueprint([Database]).apply(parent)

        blueprint.stop(parent)

        assert parent.heard == []
        blueprint.join(timeout=1)

    def test_does_not_change_what_the_classes_require(self, parent):
        bootsteps.Blueprint([Metrics]).apply(parent)

        assert Metrics.requires == ("tests.vocabulary.test_bootsteps:Cache",)

    def test_leaves_out_steps_that_do_not_want_to_be_in(self, parent):
        class Disabled(Speaking):
            enabled = False

        class Conditional(Speaking):
            def include_if(self, parent):
                return False

        bootsteps.Blueprint([Disabled, Conditional, Database]).apply(parent)

        assert [step.alias for step in parent.steps] == ["Database"]

    def test_refuses_steps_that_require_each_other(self, parent):
        class First(bootsteps.Step):
            requires = ()

        class Second(bootsteps.Step):
            requires = (First,)

        First.requires = (Second,)

        with pytest.raises(CycleError, match="First"):
            bootsteps.Blueprint([First]).apply(parent)

    def test_stops_the_others_when_one_fails_to_stop(self, parent, caplog):
        class Broken(Speaking):
            requires = (Database,)

            def stop(self, parent):
                raise OSError("stuck")

        blueprint = bootsteps.Blueprint([Broken]).apply(parent)
        blueprint.start(parent)

        with caplog.at_level(logging.ERROR, logger="celery.bootsteps"):
            blueprint.stop(parent)

        assert parent.heard[-1] == "stop Database"
        assert "stuck" in caplog.text

    def test_counts_anew_when_it_is_started_again(self, parent):
        blueprint = bootsteps.Blueprint([Metrics]).apply(parent)

        for _ in range(2):
            blueprint.start(parent)
            blueprint.restart(parent)

        assert blueprint.started == 3

    def test_calls_back(self, parent):
        heard = parent.heard
        blueprint = bootsteps.Blueprint(
            [Database],
            on_start=lambda: heard.append("starting"),
            on_close=lambda: heard.append("closing"),
            on_stopped=lambda: heard.append("stopped"),
        ).apply(parent)

        blueprint.start(parent)
        blueprint.stop(parent)

        assert [word for word in heard if " " not in word] == [
            "starting",
            "closing",
            "stopped",
        ]

    def test_collects_what_steps_tell_of_themselves(self, parent):
        class Told(Speaking):
            def info(self, obj):
                return {"told": obj is parent}

        blueprint = bootsteps.Blueprint([Told, Database]).apply(parent)

        assert blueprint.info(parent) == {"told": True}

    def test_can_be_drawn(self, parent):
        blueprint = bootsteps.Blueprint([Metrics, Last]).apply(parent)
        drawing = io.StringIO()

        blueprint.graph.to_dot(drawing)

        assert "Cache" in drawing.getvalue()
        assert "⧉Last" in drawing.getvalue()


class TestAStep:
    def test_keeps_the_object_that_it_creates_and_starts_and_stops_it(self, parent):
        server = SimpleNamespace(start=lambda: "started", stop=lambda: "stopped")

        class Server(bootsteps.StartStopStep):
            def create(self, parent):
                return server

        step = Server(parent)

        assert step.include(parent) is True
        assert step.obj is server
        assert step.start(parent) == "started"
        assert step.terminate(parent) == "stopped"

    def test_is_named_after_its_module_unless_it_has_a_name(self):
        class Named(bootsteps.Step):
            name = "a name"

        assert Named.name == "a name"
        assert Database.name == f"{__name__}.Database"
        assert str(Database) == Database.name

    def test_that_consumes_messages_is_refused_with_a_way_out(self, parent):
        class Listener(bootsteps.ConsumerStep):
            def get_consumers(self, channel):
                return []

        with pytest.raises(
            ImproperlyConfigured, match=r"Listener is a ConsumerStep.*queue"
        ):
            bootsteps.Blueprint([Listener]).apply(parent)
