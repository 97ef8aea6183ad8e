"""The fixtures that Celery's users have in their own tests: an app and a worker."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pgtasks import _state
from pgtasks.contrib.testing.app import TestApp, Trap, setup_default_app
from pgtasks.contrib.testing.mocks import (
    ContextMock,
    TaskMessage,
    TaskMessage1,
    task_message_from_sig,
)

pytest_plugins = ["pytester"]


class TestTheTestApp:
    def test_keeps_jobs_and_results_in_memory(self):
        with TestApp() as app:
            assert app.conf.broker_url == "memory://"
            assert app.conf.result_backend == "cache+memory://"
            assert "celery.ping" in app.tasks

    def test_takes_settings_a_broker_and_a_backend(self):
        with TestApp("shop", {"task_always_eager": True}, broker="redis://x") as app:
            assert (app.main, app.conf.task_always_eager) == ("shop", True)
            assert app.conf.broker_url == "redis://x"

    def test_leaves_the_process_as_it_was(self):
        before = _state.get_current_app()
        default = _state.default_app
        app = TestApp()
        with setup_default_app(app):
            app.set_current()
            app.set_default()

        assert _state.get_current_app() is before
        assert _state.default_app is default
        assert app not in _state._apps

    def test_can_forbid_the_use_of_the_current_app(self):
        forbidden = pytest.raises(RuntimeError, match="Test depends on current_app")

        with setup_default_app(TestApp(), use_trap=True), forbidden:
            _ = _state.current_app.conf

    def test_tells_what_was_read_of_it(self):
        with pytest.raises(RuntimeError, match="'tasks'"):
            _ = Trap().tasks


class TestMessages:
    def test_of_protocol_2_have_options_in_their_headers(self):
        message = TaskMessage("add", id="1", args=[2], kwargs={"y": 3}, retries=1)

        assert message.headers == {"id": "1", "task": "add", "shadow": None, "retries": 1}
        assert message.payload[:2] == ([2], {"y": 3})
        assert message.content_type == "application/json"

    def test_of_protocol_1_have_all_in_their_body(self):
        message = TaskMessage1("add", args=[2], retries=1)

        assert message.headers == {}
        assert message.payload["task"] == "add"
        assert message.payload["retries"] == 1

    def test_can_be_made_of_signatures(self):
        from datetime import datetime, timezone

        now = datetime(2026, 1, 1, tzinfo=timezone.utc)
        app = SimpleNamespace(now=lambda: now)
        signature = SimpleNamespace(
            task="add",
            id="1",
            args=[2],
            kwargs={},
            options={
                "countdown": 60,
                "expires": 120,
                "link": [{"task": "mul"}],
                "queue": "q",
            },
            freeze=lambda: None,
        )

        message = task_message_from_sig(app, signature)

        assert message.headers["eta"] == "2026-01-01T00:01:00+00:00"
        assert message.headers["expires"] == "2026-01-01T00:02:00+00:00"
        assert message.headers["queue"] == "q"
        assert message.payload[2]["callbacks"] == [{"task": "mul"}]


def test_a_mock_can_be_a_context_and_lets_exceptions_through():
    mock = ContextMock()

    with mock as inside:
        assert inside is mock
    with pytest.raises(KeyError), mock:
        raise KeyError


def test_the_fixtures_give_an_app_per_test_with_the_settings_of_its_marker(pytester):
    pytester.makeconftest("pytest_plugins = ['pgtasks.contrib.pytest']")
    pytester.makepyfile(
        """
        import pytest
        from pgtasks import current_app

        @pytest.fixture(scope="session")
        def celery_config():
            return {"task_default_queue": "mail"}

        @pytest.fixture(scope="session")
        def celery_parameters():
            return {"strict_typing": False}

        apps = []

        @pytest.mark.celery(timezone="Europe/Paris")
        def test_one(celery_app):
            assert celery_app.conf.task_default_queue == "mail"
            assert str(celery_app.timezone) == "Europe/Paris"
            assert not celery_app.strict_typing
            assert celery_app not in apps
            apps.append(celery_app)

        def test_two(celery_app, depends_on_current_app):
            assert celery_app not in apps
            apps.append(celery_app)
            assert current_app._get_current_object() is celery_app

        def test_three(celery_session_app):
            assert current_app._get_current_object() is celery_session_app
        """
    )

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


@pytest.fixture
def worker_tests(pytester, database_url):
    """A directory of tests whose app is on the database of this test."""
    pytester.makeconftest(
        f"""
        import pytest
        pytest_plugins = ["pgtasks.contrib.pytest"]

        @pytest.fixture(scope="session")
        def celery_config():
            return {{"broker_url": {database_url!r}, "result_backend": "postgresql"}}
        """
    )
    return pytester


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_the_worker_runs_the_jobs_of_a_test(worker_tests, pool):
    worker_tests.makepyfile(
        f"""
        import pytest

        @pytest.fixture(scope="session")
        def celery_worker_pool():
            return {pool!r}

        @pytest.fixture(scope="session")
        def celery_worker_parameters():
            return {{"queues": ["celery"], "perform_ping_check": True}}

        def test_add(celery_app, celery_worker):
            @celery_app.task
            def add(x, y):
                return x + y

            assert add.delay(2, 3).get(timeout=10) == 5
            assert celery_worker.hostname.startswith("gen")
        """
    )

    worker_tests.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_worker_that_cannot_start_says_why(pytester, fresh_database):
    pytester.makeconftest("pytest_plugins = ['pgtasks.contrib.pytest']")
    pytester.makepyfile(
        f"""
        import pytest
        from pgtasks.contrib.testing import worker

        def test_it(celery_app):
            celery_app.conf.broker_url = {fresh_database!r}
            stopped = []
            worker.test_worker_stopped.connect(
                lambda worker, **kwargs: stopped.append(worker), weak=False
            )
            with pytest.raises(Exception, match="pgtasks schema apply"):
                with worker.start_worker(celery_app):
                    raise AssertionError("not reached")
            assert len(stopped) == 1
        """
    )

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
