"""Boot steps in a worker that runs: as Celery's guide has them, and when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import TASKS, LiveWorker, write

from helpers import eventually

# The liveness file of Celery's guide, and what else is put into steps.
STEPS = """
from pathlib import Path

from click import Option

from pgtasks import bootsteps

ALIVE = Path("alive")


class Liveness(bootsteps.StartStopStep):
    requires = {"celery.worker.components:Timer"}

    def __init__(self, worker, **options):
        self.entry = None

    def start(self, worker):
        self.entry = worker.timer.call_repeatedly(0.05, self.touch, (worker,), priority=10)

    def stop(self, worker):
        ALIVE.unlink(missing_ok=True)

    def touch(self, worker):
        with ALIVE.open("a") as file:
            file.write(f"{worker.hostname} {worker.pool.name}\\n")

    def info(self, worker):
        return {"liveness": str(ALIVE)}


class Greeting(bootsteps.Step):
    def __init__(self, parent, greeting="nobody", **options):
        # Children are copied from a worker whose steps have been made.
        import tasks

        tasks.greeting = greeting


class InConsumer(bootsteps.StartStopStep):
    requires = {"celery.worker.consumer:Tasks"}

    def start(self, consumer):
        print(f"step {consumer} {consumer.app.main} {consumer.controller.pool.name}")

    def stop(self, consumer):
        print("step stops")

    def shutdown(self, consumer):
        print("step shut down")


app.steps["worker"].update({Liveness, Greeting})
app.steps["consumer"].add(InConsumer)
app.user_options["worker"].add(Option(["--greeting"], default="world"))
greeting = None


@app.task
def greet():
    return greeting
"""

BROKEN = """
from pgtasks import bootsteps


class Fine(bootsteps.StartStopStep):
    def start(self, worker):
        print("fine starts", flush=True)

    def stop(self, worker):
        print("fine stops", flush=True)


class Broken(bootsteps.StartStopStep):
    requires = {Fine}

    def %s(self, worker):
        raise OSError("port 9000 is taken")


app.steps["worker"].add(Broken)
"""


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_steps_live_as_long_as_their_worker_does(
    tmp_path: Path, database_url: str, pool: str
):
    write(tmp_path / "tasks.py", TASKS + STEPS)
    alive = tmp_path / "alive"

    worker = LiveWorker(
        tmp_path, database_url, "-n", "w@here", "-P", pool, "--greeting", "Lisa"
    )
    try:
        eventually(
            lambda: alive.exists() and alive.read_text().count("\n") > 2,
            message=worker.log,
        )
        assert alive.read_text().splitlines()[0] == f"w@here {pool}"
        assert f"step <Consumer: w@here (running)> tasks {pool}" in worker.log()
        from pgtasks import Celery

        with Celery("client", broker=database_url, set_as_current=False) as app:
            assert app.send_task("tasks.greet").get(timeout=20) == "Lisa"
            stats = app.control.inspect(timeout=5).stats()
            assert stats["w@here"]["liveness"] == "alive"
    finally:
        status = worker.stop()

    assert status == 0
    assert not alive.exists()
    assert worker.log().index("step stops") < worker.log().index("step shut down")


def test_a_worker_stops_if_a_step_does_not_start(tmp_path: Path, database_url: str):
    write(tmp_path / "tasks.py", TASKS + BROKEN % "start")

    with pytest.raises(RuntimeError, match="ended at once") as ended:
        LiveWorker(tmp_path, database_url)

    log = str(ended.value)
    assert "The worker stops, for its boot step tasks.Broken did not start" in log
    assert "OSError: port 9000 is taken" in log
    # What had started before it is not left alone.
    assert log.index("fine starts") < log.index("fine stops")


def test_a_worker_stops_in_order_though_a_step_does_not(tmp_path: Path, database_url: str):
    write(tmp_path / "tasks.py", TASKS + BROKEN % "stop")

    worker = LiveWorker(tmp_path, database_url)
    status = worker.stop()

    assert status == 0
    assert "port 9000 is taken" in worker.log()
    assert "fine stops" in worker.log()


def test_a_step_that_wants_a_broker_is_told_what_to_do_instead(
    tmp_path: Path, database_url: str
):
    program = """
from pgtasks import bootsteps

class Mine(bootsteps.ConsumerStep):
    pass

app.steps["consumer"].add(Mine)
"""
    write(tmp_path / "tasks.py", TASKS + program)

    with pytest.raises(RuntimeError, match="Mine is a ConsumerStep") as ended:
        LiveWorker(tmp_path, database_url)

    assert "Traceback" not in str(ended.value)
