"""What integration tests ask of a worker, and wait for."""

from __future__ import annotations

import io
import threading

import pytest

from pgtasks.contrib.testing.app import setup_default_app
from pgtasks.contrib.testing.manager import Manager, Sentinel
from pgtasks.contrib.testing.worker import start_worker


@pytest.fixture
def manager(memory_app) -> Manager:
    return Manager(memory_app, stdout=io.StringIO(), stderr=io.StringIO())


class TestWaiting:
    QUICK = {"interval_start": 0, "interval_step": 0, "interval_max": 0}

    def test_ends_when_the_function_does_not_fail(self, manager):
        answers = iter([KeyError("soon"), "ready"])

        def ask():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert manager.wait_for(ask, KeyError, "it", emit_warning=True, **self.QUICK) == (
            "ready"
        )
        told = manager.stderr.getvalue()
        assert told == "Still waiting for it.  Trying again now: KeyError('soon')\n"

    def test_ends_with_the_last_exception(self, manager):
        with pytest.raises(Sentinel):
            manager.wait_for(
                lambda: manager.true_or_raise(lambda: False),
                Sentinel,
                max_retries=2,
                **self.QUICK,
            )

    def test_for_what_must_not_happen_fails_when_it_does(self, manager):
        with pytest.raises(AssertionError, match="Should not have happened: the end"):
            manager.ensure_not_for_a_while(lambda: 1, Sentinel, "the end")

    def test_for_results_in_vain_tells_how_many_there_are(self, manager):
        result = manager.app.AsyncResult("never")

        with pytest.raises(AssertionError, match="Missing task results"):
            manager.join(result, max_retries=1, timeout=0.01)
        assert manager.stdout.getvalue().startswith("!Still waiting for 1/1: [never]")


class TestAWorker:
    @pytest.mark.usefixtures("logging_as_it_was")
    def test_is_asked_what_it_holds_until_it_is_idle(self, postgres_app):
        postgres_app.conf.worker_hijack_root_logger = False
        postgres_app.log.loglevel = 0
        begun, go_on = threading.Event(), threading.Event()

        @postgres_app.task(shared=False)
        def wait():
            begun.set()
            go_on.wait(20)
            return "done"

        manager = Manager(postgres_app, stdout=io.StringIO())
        with (
            setup_default_app(postgres_app),
            start_worker(
                postgres_app, pool="threads", loglevel=0, perform_ping_check=False
            ),
        ):
            result = wait.delay()
            assert begun.wait(20)
            manager.assert_accepted([result.id])
            manager.assert_received([result.id])
            assert manager.query_task_states([result.id]) == {"active": {result.id}}
            waiting = wait.apply_async(countdown=1000)
            go_on.set()
            manager.wait_until_idle()

            manager.join(result, timeout=10)
            assert result.get() == "done"
            assert not waiting.exists()
