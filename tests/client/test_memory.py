"""``memory://``: jobs and results of this process, without threads and without a database."""

from __future__ import annotations

import sys
import threading

import pytest

from helpers import eventually
from pgtasks import Celery, exceptions
from pgtasks.app.memory import MemoryQueue, queue_of
from pgtasks.app.trace import execute
from pgtasks.backends.memory import MemoryBackend, MemoryClient
from pgtasks.job import NewJob, Outcome


@pytest.fixture
def queue(memory_app) -> MemoryQueue:
    return queue_of(memory_app)


def ids(jobs):
    return [job.task_id for job in jobs]


def test_no_thread_is_started_and_no_database_opened(memory_app, desk):
    @memory_app.task
    def add(x, y):
        return x + y

    threads = threading.enumerate()
    result = add.delay(1, 2)
    desk(memory_app).work_off()

    assert result.get(timeout=1) == 3
    assert threading.enumerate() == threads
    with pytest.raises(exceptions.ImproperlyConfigured, match="memory://"):
        _ = memory_app.database


def test_psycopg_is_not_needed():
    import subprocess

    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from pgtasks import Celery\n"
        "app = Celery('t', broker='memory://')\n"
        "@app.task\n"
        "def add(x, y): return x + y\n"
        "print(add.delay(1, 2).state)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "PENDING\n"


def test_without_a_backend_results_are_kept_in_memory_too():
    with Celery("t", broker="memory://", set_as_current=False) as app:
        assert isinstance(app.backend, MemoryBackend)
        assert app.backend.as_uri() == "memory:///"


def test_the_most_urgent_job_comes_first(queue):
    queue.put(
        [
            NewJob("t", "late", priority=5),
            NewJob("t", "soon", priority=1),
            NewJob("t", "soon too", priority=1),
            NewJob("t", "elsewhere", queue="other"),
        ]
    )

    assert ids(queue.get(["celery"], 10)) == ["soon", "soon too", "late"]
    assert ids(queue.get(["celery", "other"], 10)) == ["elsewhere"]
    assert queue.get(["celery"]) == []


def test_a_job_that_is_not_due_waits(queue):
    queue.put(
        [
            NewJob("t", "later", delay=60),
            NewJob("t", "tomorrow", eta="2050-01-01T00:00:00+00:00"),
        ]
    )
    assert queue.get(["celery"]) == []

    queue.put([NewJob("t", "soon", delay=0.01)])
    (job,) = queue.get(["celery"], timeout=10)
    assert job.task_id == "soon"


def test_waiting_for_a_job_ends_when_one_comes(queue):
    got = []
    thread = threading.Thread(
        target=lambda: got.extend(queue.get(["celery"], timeout=None))
    )
    thread.start()
    queue.put([NewJob("t", "here")])
    thread.join(10)

    assert ids(got) == ["here"]


def test_an_id_is_taken_until_its_job_is_over(queue):
    assert [each.conflict for each in queue.put([NewJob("t", "1"), NewJob("t", "1")])] == [
        False,
        True,
    ]
    (job,) = queue.get(["celery"], 10)
    assert queue.put([NewJob("t", "1")])[0].conflict
    queue.settle([Outcome(job.id, job.claim_token, "completed")])
    assert not queue.put([NewJob("t", "1")])[0].conflict


def test_only_the_owner_of_a_job_can_settle_it(queue):
    queue.put([NewJob("t", "1")])
    (first,) = queue.get(["celery"])
    assert queue.settle([Outcome(first.id, first.claim_token, "available")]) == {first.id}
    (second,) = queue.get(["celery"])

    assert queue.settle([Outcome(first.id, first.claim_token, "completed")]) == set()
    assert queue.settle([Outcome(second.id, second.claim_token, "completed")]) == {
        second.id
    }
    assert (first.attempt, second.attempt) == (1, 2)
    assert len(queue) == 0


def test_an_outcome_changes_the_job_that_runs_again(queue):
    queue.put([NewJob("t", "1", args="[1]")])
    (job,) = queue.get(["celery"])
    outcome = Outcome(job.id, job.claim_token, "retryable", delay=0, retried=True)
    outcome.args, outcome.queue, outcome.priority = "[2]", "slow", 3
    queue.settle([outcome])
    (again,) = queue.get(["slow"])

    assert (again.args, again.queue, again.priority) == ("[2]", "slow", 3)
    assert (again.retries, again.attempt) == (1, 2)


def test_follow_ups_exist_when_their_outcome_is_accepted(queue):
    queue.put([NewJob("t", "1")])
    (job,) = queue.get(["celery"])
    outcome = Outcome(job.id, "not the token", "completed", follow_ups=[NewJob("t", "2")])
    queue.settle([outcome])
    assert queue.waiting() == []
    outcome.claim_token = job.claim_token
    queue.settle([outcome])

    assert ids(queue.waiting()) == ["2"]


def test_what_waits_can_be_listed_and_purged(queue):
    queue.put(
        [NewJob("t", "1"), NewJob("t", "2", queue="other"), NewJob("t", "3", delay=60)]
    )
    queue.get(["celery"])

    assert ids(queue.waiting()) == ["2", "3"]
    assert ids(queue.waiting("other")) == ["2"]
    assert queue.purge(["other"]) == 1
    assert queue.purge() == 1
    assert len(queue) == 1


def test_a_worker_in_a_thread_wakes_who_waits(memory_app):
    @memory_app.task
    def add(x, y):
        return x + y

    memory_app.finalize()
    queue = queue_of(memory_app)

    def work():
        for _ in range(3):
            (job,) = queue.get(["celery"], timeout=20)
            queue.settle([execute(memory_app, job)])

    thread = threading.Thread(target=work)
    thread.start()
    results = [add.delay(x, x) for x in range(3)]

    assert [result.get(timeout=20) for result in results] == [0, 2, 4]
    thread.join(20)
    assert eventually(lambda: not thread.is_alive())


def test_applications_share_results_and_not_jobs(memory_app):
    with Celery("other", broker="memory://", set_as_current=False) as other:
        memory_app.backend.mark_as_done("shared", 1)
        memory_app.send_task("t")

        assert other.AsyncResult("shared").get(timeout=1) == 1
        assert queue_of(other).waiting() == []


def test_the_store_forgets_the_oldest_results(memory_app, monkeypatch):
    store = MemoryClient().cache
    monkeypatch.setattr(type(store), "limit", 3)
    for number in range(5):
        memory_app.backend.mark_as_done(str(number), number)

    assert len(store) == 3
    assert memory_app.AsyncResult("0").state == "PENDING"
    assert memory_app.AsyncResult("4").get(timeout=1) == 4


def test_celerys_names_of_the_store_are_there():
    from pgtasks.backends.cache import CacheBackend, DummyClient

    assert (CacheBackend, DummyClient) == (MemoryBackend, MemoryClient)


def test_an_id_that_is_empty_is_refused(memory_app):
    with pytest.raises(ValueError, match="must not be empty"):
        _ = memory_app.AsyncResult("").state
