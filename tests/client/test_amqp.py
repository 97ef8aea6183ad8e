"""``app.amqp``: what of it needs a broker, and says so."""

from __future__ import annotations

import pytest

from pgtasks.app.memory import queue_of


class TestWhatNeedsABroker:
    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("producer_pool", r"apply_async\(\)"),
            ("TaskConsumer", "pgtasks worker"),
            ("Connection", r"app\.database"),
        ],
    )
    def test_says_what_takes_its_place(self, app, name, remedy):
        with pytest.raises(AttributeError, match=f"no broker.*{remedy}"):
            getattr(app.amqp, name)

    def test_is_told_from_what_nobody_has(self, app):
        with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
            _ = app.amqp.nonsense


class TestSendTaskMessage:
    def test_sends_the_task_that_a_message_stands_for(self, app):
        message = app.amqp.as_task_v2(
            "the-id", "tasks.add", (1, 2), {"z": 3}, time_limit=9, root_id="root"
        )
        result = app.amqp.send_task_message(None, "tasks.add", message, queue="mail")

        (job,) = queue_of(app).get(["mail"], 10)
        assert result.id == job.task_id == "the-id"
        assert (job.task, job.args, job.kwargs) == ("tasks.add", "[1, 2]", '{"z": 3}')
        assert (job.time_limit, job.root_id) == (9, "root")

    def test_replaced_is_handed_what_is_sent_and_nothing_is_inserted(self, app):
        handed = []
        app.amqp.send_task_message = lambda *args, **options: handed.append((args, options))
        result = app.send_task("tasks.add", (1,), queue="mail", priority=3)

        ((_, name, message), options), *_ = handed
        assert (name, message.headers["id"]) == ("tasks.add", result.id)
        assert message.body[:2] == ((1,), {})
        assert options == {"queue": "mail", "serializer": "json", "priority": 3}
        assert queue_of(app).get(["mail"], 10) == []
