"""Applications in memory and on PostgreSQL, and a worker without threads for both."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

import pgtasks.app.builtins
import pgtasks.contrib.testing.tasks  # noqa: F401 - now: in a test they would be forgotten
from pgtasks import Celery, _state, signals
from pgtasks.app import settings
from pgtasks.app.memory import queue_of
from pgtasks.app.trace import execute
from pgtasks.backends.memory import MemoryClient
from pgtasks.job import Job, Outcome
from pgtasks.storage import jobs, workers


class Desk:
    """Runs jobs here and now, with what a worker uses: claim, execute, settle."""

    def __init__(self, app: Celery, *queues: str) -> None:
        self.app = app
        self.queues = queues or ("celery",)
        app.finalize()

    def claim(self, demand: int = 100) -> list[Job]:
        return queue_of(self.app).get(self.queues, demand)

    def settle(self, job: Job, outcome: Outcome) -> None:
        queue_of(self.app).settle([outcome])

    def run(self, job: Job) -> Outcome:
        outcome = execute(self.app, job, hostname="celery@desk")
        self.settle(job, outcome)
        return outcome

    def work_off(self) -> list[Outcome]:
        """Run what is due, until nothing is."""
        outcomes = []
        while claimed := self.claim():
            outcomes.extend(self.run(job) for job in claimed)
        return outcomes

    def work_one(self) -> Outcome:
        (job,) = self.claim(1)
        return self.run(job)


class PostgresDesk(Desk):
    def __init__(self, app: Celery, *queues: str) -> None:
        super().__init__(app, *queues)
        self.worker = str(uuid4())
        app.database.run(
            workers.register(
                id=self.worker,
                name="celery@desk",
                hostname="desk",
                pid=1,
                machine="elsewhere",
                process_started=1.0,
                begun_file=None,
                lease=600.0,
                queues=list(self.queues),
                pool="solo",
                concurrency=1,
                version="0",
                info={},
            )
        )

    def claim(self, demand: int = 100) -> list[Job]:
        self.app.database.run(jobs.stage(worker=self.worker))
        marks = dict.fromkeys(self.queues, jobs.LOWEST)
        query = jobs.fetch(marks, demand=demand, worker=self.worker, token=str(uuid4()))
        return self.app.database.run(query).jobs

    def settle(self, job: Job, outcome: Outcome) -> None:
        acked = self.app.database.run(jobs.ack([jobs.settle(outcome, job.task_id)]))
        assert acked.ids == {job.id}


@contextmanager
def state_as_it_was() -> Iterator[None]:
    """What is current, shared and known is afterwards what it was before."""
    default, current = _state.default_app, _state._tls.current_app
    finalizers, apps = set(_state._on_app_finalizers), list(_state._apps)
    told = set(settings._told)
    yield
    _state.default_app, _state._tls.current_app = default, current
    _state._on_app_finalizers = finalizers
    _state._apps = weakref.WeakSet(apps)
    settings._told = told


# Shared tasks of one test must not appear in the applications of the next, whoever has
# imported them; nor may its application be the current one there.


@pytest.fixture(autouse=True, scope="module")
def _state_of_the_module() -> Iterator[None]:
    with state_as_it_was():
        yield


@pytest.fixture(autouse=True)
def _state_of_the_test() -> Iterator[None]:
    with state_as_it_was():
        yield


@pytest.fixture
def memory_app() -> Iterator[Celery]:
    MemoryClient().cache.clear()
    with Celery(
        "tests", broker="memory://", backend="cache+memory://", set_as_current=False
    ) as app:
        yield app


@pytest.fixture
def postgres_app(database_url: str) -> Iterator[Celery]:
    with Celery("tests", broker=database_url, set_as_current=False) as app:
        yield app


@pytest.fixture(params=["memory", "postgres"])
def each_app(request: pytest.FixtureRequest) -> Celery:
    """An application whose jobs and results are in memory, and one on PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_app")


@pytest.fixture
def desk() -> Callable[..., Desk]:
    """Opens a desk for an application, when its tasks have been defined."""

    def open_desk(app: Celery, *queues: str) -> Desk:
        in_memory = str(app.conf.broker_url).startswith("memory")
        return (Desk if in_memory else PostgresDesk)(app, *queues)

    return open_desk


@pytest.fixture
def heard() -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Collects what signals tell: ``heard("task_prerun", …)`` is the list that grows."""
    connected = []

    def listen(*names: str) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for name in names:
            signal = getattr(signals, name)

            def note(_name: str = name, **kwargs: Any) -> None:
                told.append({"name": _name, **kwargs})

            signal.connect(note, weak=False)
            connected.append((signal, note))
        return told

    yield listen
    for signal, note in connected:
        signal.disconnect(note)
