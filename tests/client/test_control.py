"""Commands to workers as they leave the client; what workers do is tested with them."""

from __future__ import annotations

from typing import Any

import pytest

from pgtasks.app.control import Control, Inspect, flatten_reply
from pgtasks.app.mailbox import Mailbox
from pgtasks.exceptions import DuplicateNodenameWarning


class Recording(Mailbox):
    """A mailbox that sends nothing and answers what it is told to."""

    answer: Any = None

    def _broadcast(self, command, arguments=None, destination=None, *given, **named):
        self.sent = (command, arguments, destination)
        return self.answer


class RecordingControl(Control):
    Mailbox = Recording


@pytest.fixture
def control(make_app) -> Control:
    return make_app(control=RecordingControl).control


COMMANDS = [
    (
        "revoke",
        ("1",),
        {"terminate": True, "signal": "SIGKILL"},
        {"task_id": "1", "terminate": True, "signal": "SIGKILL"},
    ),
    (
        "revoke",
        (["1", "2"],),
        {},
        {"task_id": ["1", "2"], "terminate": False, "signal": "SIGTERM"},
    ),
    (
        "revoke_by_stamped_headers",
        ({"tenant": "acme"},),
        {},
        {"headers": {"tenant": "acme"}, "terminate": False, "signal": "SIGTERM"},
    ),
    ("rate_limit", ("add", "10/m"), {}, {"task_name": "add", "rate_limit": "10/m"}),
    ("time_limit", ("add", 1, 2), {}, {"task_name": "add", "soft": 1, "hard": 2}),
    ("pool_grow", (), {}, {"n": 1}),
    ("pool_shrink", (2,), {}, {"n": 2}),
    ("autoscale", (10, 3), {}, {"max": 10, "min": 3}),
    (
        "pool_restart",
        (["proj.tasks"],),
        {},
        {"modules": ["proj.tasks"], "reload": False, "reloader": None},
    ),
    ("enable_events", (), {}, {}),
    ("disable_events", (), {}, {}),
    ("heartbeat", (), {}, {}),
    ("shutdown", (), {}, {}),
    ("cancel_consumer", ("mailers",), {}, {"queue": "mailers"}),
]


class TestACommand:
    @pytest.mark.parametrize(("name", "args", "kwargs", "arguments"), COMMANDS)
    def test_is_sent_with_its_arguments_to_whom_it_may_concern(
        self, control, name, args, kwargs, arguments
    ):
        getattr(control, name)(*args, **kwargs)
        assert control.mailbox.sent == (name, arguments, None)

        getattr(control, name)(*args, **kwargs, destination=["w1@host"])
        assert control.mailbox.sent == (name, arguments, ["w1@host"])

    def test_to_terminate_is_one_to_revoke(self, control):
        control.terminate("1", signal="SIGINT")

        command, arguments, _ = control.mailbox.sent
        assert command == "revoke"
        assert arguments == {"task_id": "1", "terminate": True, "signal": "SIGINT"}

    def test_takes_further_arguments_by_name(self, control):
        control.broadcast("own_command", arguments={"a": 1}, b=2)

        assert control.mailbox.sent == ("own_command", {"a": 1, "b": 2}, None)

    def test_that_does_not_exist_is_no_method(self, control):
        with pytest.raises(AttributeError, match="no_such"):
            control.no_such()


class TestAQuestion:
    @pytest.mark.parametrize(
        ("name", "args", "arguments"),
        [
            ("active", (), {"safe": None}),
            ("revoked", (), {}),
            ("query_task", ("1", "2"), {"ids": ("1", "2")}),
            ("query_task", (["1"],), {"ids": ["1"]}),
            ("registered", ("rate_limit",), {"taskinfoitems": ("rate_limit",)}),
            ("clock", (), {}),
            ("memsample", (), {}),
            ("memdump", (5,), {"samples": 5}),
            ("objgraph", (), {"num": 200, "max_depth": 10, "type": "Request"}),
            ("conf", (True,), {"with_defaults": True}),
        ],
    )
    def test_is_sent_with_its_arguments(self, control, name, args, arguments):
        getattr(control.inspect(), name)(*args)

        assert control.mailbox.sent == (name, arguments, None)

    def test_that_nobody_answers_has_no_answer(self, control):
        assert control.inspect().ping() is None

    def test_to_one_worker_by_name_has_its_answer(self, control):
        control.mailbox.answer = [{"w1@host": {"ok": "pong"}}]

        assert control.inspect("w1@host").ping() == {"ok": "pong"}
        assert control.inspect(["w1@host"]).ping() == {"w1@host": {"ok": "pong"}}

    def test_by_a_pattern_has_the_answers_of_those_that_match(self, control):
        control.mailbox.answer = [{"w1@host": 1}, {"beat@host": 2}]

        assert control.inspect(pattern="w*").ping() == {"w1@host": 1}

    def test_to_workers_of_one_name_is_warned_of(self):
        with pytest.warns(DuplicateNodenameWarning, match=r"w1@host.*-n"):
            assert flatten_reply([{"w1@host": 1}, {"w1@host": 2}]) == {"w1@host": 2}

    def test_belongs_to_the_application(self, control):
        assert issubclass(control.inspect, Inspect)
        assert control.inspect().app is control.app
