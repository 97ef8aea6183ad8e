"""Starting a worker: what the options mean, and what is refused."""

from __future__ import annotations

import os
import signal
import sys

import psycopg
import pytest
from cli_helpers import LiveWorker, write

from pgtasks.cli import process, worker
from pgtasks.worker import identity


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--autoscale", "3,10"], "write the largest number of jobs at a time"),
        (["-P", "eventlet"], "use gevent"),
        (
            ["-P", "forked"],
            "Choose one of prefork, processes, threads, solo, asyncio, gevent",
        ),
        (["-c", "many"], "neither a number nor 'auto'"),
        (["-l", "loud"], "'info'"),
        (["-n", "%x@here"], "Known are"),
        (["--max-tasks-per-child", "0"], "0 is not in the range"),
        (["-Q", "a", "-X", "a"], "-X excludes all of them"),
        (["surplus"], "unexpected words: surplus"),
        (["no.such=1"], "with their whole names"),
        (["--uid", "nobody-of-that-name"], "options --uid and --gid"),
        (["--umask", "9"], "in octal"),
    ],
)
def test_a_wrong_option_is_refused_with_a_remedy(run, words, remedy):
    refused = run("worker", *words)

    assert refused.exit_code in (2, 67), refused.stderr
    assert remedy in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_gevent_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(worker, "find_spec", lambda name: None)
    refused = run("worker", "-P", "gevent")

    assert refused.exit_code == 2
    assert "pip install 'pgtasks[gevent]'" in refused.stderr


def test_greenlets_are_refused_where_nothing_was_patched(pgtasks, tmp_path, database_url):
    write(
        tmp_path / "green.py",
        f"""
        from pgtasks import Celery
        app = Celery("green", broker={database_url!r})
        app.conf.worker_pool = "gevent"
        """,
    )
    refused = pgtasks("-A", "green", "worker", cwd=tmp_path)

    assert refused.returncode == 78
    assert "Start the worker with the option -P gevent" in refused.stderr


def test_an_option_without_a_value_is_told_of_by_the_command(pgtasks):
    refused = pgtasks("-A", "tasks", "worker", "-P")

    assert refused.returncode == 2
    assert "requires an argument" in refused.stderr


def test_one_place_does_not_scale(pgtasks):
    refused = pgtasks("-A", "tasks", "worker", "-P", "solo", "--autoscale", "4")

    assert refused.returncode == 78
    assert "the pool 'solo' runs one job at a time" in refused.stderr


def test_without_tables_it_says_which_command_makes_them(pgtasks, fresh_database):
    refused = pgtasks("-A", "tasks", "worker", PGTASKS_DATABASE_URL=fresh_database)

    assert refused.returncode == 78
    assert "has no tables of pgtasks. Run: pgtasks schema apply" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_the_database_it_says_how_to_make_one(pgtasks, postgres):
    url = postgres.url_of("not_there")
    refused = pgtasks("-A", "tasks", "worker", PGTASKS_DATABASE_URL=url)

    assert refused.returncode == 78
    assert "Create it (createdb), or correct the name in the URL." in refused.stderr


def test_a_foreign_broker_is_refused_with_the_ways_to_name_a_database(pgtasks):
    refused = pgtasks("-A", "tasks", "-b", "redis://here", "worker")

    assert refused.returncode == 78
    assert "PGTASKS_DATABASE_URL" in refused.stderr


def test_a_worker_may_be_told_not_to_wait_for_its_database(pgtasks):
    refused = pgtasks(
        "-A", "tasks", "worker", "--", "broker.connection_retry_on_startup=no",
        PGTASKS_DATABASE_URL="postgresql://127.0.0.1:1/x",
    )  # fmt: skip

    assert refused.returncode == 69
    assert "Start the server, or correct host and port in the URL." in refused.stderr


def test_a_module_that_fails_shows_its_traceback(pgtasks, tmp_path):
    write(tmp_path / "more.py", "import tasks\n1 / 0\n")
    refused = pgtasks("-A", "tasks", "worker", "-I", "more")

    assert refused.returncode == 1
    assert 'more.py", line 2, in <module>' in refused.stderr
    assert "pgtasks/cli" not in refused.stderr


def test_an_undeclared_queue_is_refused_where_queues_must_be_declared(pgtasks, tmp_path):
    write(
        tmp_path / "strict.py",
        """
        from kombu import Queue
        from pgtasks import Celery
        app = Celery("strict", task_queues=[Queue("a")], task_create_missing_queues=False)
        """,
    )
    refused = pgtasks("-A", "strict", "worker", "-Q", "b")

    assert refused.returncode == 2
    assert "There is no queue 'b' among those that the application declares (a)" in (
        refused.stderr
    )


def test_a_log_file_that_cannot_be_written_is_named(pgtasks):
    refused = pgtasks("-A", "tasks", "worker", "-f", "/not/there/worker.log")

    assert refused.returncode == 73
    assert "Cannot write the log file /not/there/worker.log" in refused.stderr


# ── a worker that runs ──────────────────────────────────────────────────────────────────


def test_the_banner_has_our_facts_and_no_password(tmp_path, database_url):
    write(tmp_path / "tasks.py", "from pgtasks import Celery\napp = Celery('facts')\n")
    separator = "&" if "?" in database_url else "?"
    url = f"{database_url}{separator}password=s3cret"
    worker = LiveWorker(
        tmp_path, url, "-n", "w1@%h", "-c", "3", "-P", "threads", "-Q", "mail,video",
        "-E", "--without-gossip",
    )  # fmt: skip
    status = worker.stop()
    log = worker.log()

    assert status == 0
    assert f"w1@{os.uname().nodename} v" in log
    assert ".> app:         facts:0x" in log
    assert ".> concurrency: 3 (threads)" in log
    assert ".> task events: ON\n" in log
    assert ".> mail\n" in log
    assert ".> video\n" in log
    assert "[tasks]" in log
    assert "s3cret" not in log
    assert "embedded" not in log
    assert "Accepted and without effect: --without-gossip." in log


def test_a_worker_tells_programs_of_its_start_in_celerys_order(tmp_path, database_url):
    write(
        tmp_path / "tasks.py",
        """
        from pgtasks import Celery, signals

        app = Celery("told")

        @signals.celeryd_init.connect(sender="told@here")
        def before(conf, instance, **kwargs):
            print(f"1 {instance.hostname} {instance.app.main}")
            conf.worker_concurrency = 5

        @signals.celeryd_after_setup.connect
        def after(instance, **kwargs):
            print(f"2 {instance.concurrency}")
            instance.app.amqp.queues.select_add("added")

        @signals.worker_ready.connect
        def ready(sender, **kwargs):
            print(f"3 {sorted(sender.controller.queues)}")

        @signals.worker_shutdown.connect
        def over(**kwargs):
            print("4 over")
        """,
    )
    worker = LiveWorker(tmp_path, database_url, "-n", "told@here", "-P", "threads")
    worker.stop()
    log = worker.log()
    said = [
        "1 told@here told", "2 5", "3 ['added', 'celery']", "4 over",
    ]  # fmt: skip

    places = [log.find(line) for line in said]
    assert -1 not in places, log
    assert places == sorted(places)


def test_waiting_jobs_may_be_deleted_first(tmp_path, database_url, app):
    app.send_task("tests.none", queue="celery")
    app.send_task("tests.none", queue="other")
    write(tmp_path / "tasks.py", "from pgtasks import Celery\napp = Celery('p')\n")
    LiveWorker(tmp_path, database_url, "--purge", "-P", "solo").stop()

    with psycopg.connect(database_url) as connection:
        left = connection.execute("select queue from pgtasks.jobs").fetchall()
    assert left == [("other",)]


def test_the_log_says_which_process_speaks_in_celerys_words(tmp_path, database_url, app):
    write(
        tmp_path / "tasks.py",
        """
        from pgtasks import Celery
        from pgtasks.utils.log import get_task_logger
        app = Celery("p")
        logger = get_task_logger(__name__)

        @app.task(name="tests.speak")
        def speak():
            logger.warning("here I am")
        """,
    )
    worker = LiveWorker(tmp_path, database_url, "-c", "1", "-l", "info")
    app.send_task("tests.speak").get(timeout=20)
    worker.stop()

    [spoken] = [line for line in worker.log().splitlines() if "here I am" in line]
    assert "WARNING/ForkPoolWorker-1] tests.speak[" in spoken
    assert "INFO/MainProcess]" in worker.log()


def test_a_signal_that_comes_too_early_is_kept(tmp_path, database_url):
    write(
        tmp_path / "tasks.py",
        """
        import os, signal
        from pgtasks import Celery, signals
        app = Celery("early")

        @signals.worker_init.connect
        def too_early(**kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
        """,
    )
    worker = LiveWorker(tmp_path, database_url, "-P", "threads")

    assert worker.process.wait(20) == 0, worker.log()


# ── the process ─────────────────────────────────────────────────────────────────────────


def test_a_pid_file_that_a_killed_process_left_is_taken_over(tmp_path):
    path = tmp_path / "worker.pid"
    path.write_text("999999999\n")
    with process.pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"

    assert not path.exists()


def test_a_pid_file_of_a_running_process_is_left_alone(tmp_path):
    path = tmp_path / "worker.pid"
    path.write_text(f"{os.getppid()}\n")
    with (
        pytest.raises(process.Failure, match=f"process {os.getppid()}, which is running"),
        process.pid_file(str(path)),
    ):
        pass

    assert path.exists()


def test_a_pid_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "missing" / "worker.pid"
    with (
        pytest.raises(process.Failure, match="Choose another place"),
        process.pid_file(str(path)),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="has no root")
def test_root_is_warned_and_may_not_unpickle(monkeypatch):
    monkeypatch.delenv("C_FORCE_ROOT", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert "absolutely not recommended" in str(process.warn_of_root(["json"]))
    with pytest.raises(process.Failure, match="C_FORCE_ROOT=1"):
        process.warn_of_root(["json", "pickle"])
    monkeypatch.setenv("C_FORCE_ROOT", "1")
    assert process.warn_of_root(["pickle"])
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert process.warn_of_root(["pickle"]) is None


def test_what_the_settings_say_is_told_once_there_is_a_log(tmp_path, database_url):
    write(
        tmp_path / "tasks.py",
        """
        from pgtasks import Celery

        app = Celery("told")
        app.conf.update(broker_heartbeat=3, worker_concurrency="auto")
        """,
    )
    worker = LiveWorker(tmp_path, database_url, "-P", "threads")
    worker.stop()

    assert "without effect" in worker.log()
    assert "broker_heartbeat" in worker.log()


@pytest.mark.parametrize("given", ["auto", " AUTO "])
def test_auto_counts_the_processors_that_may_be_used(given):
    usable = len(os.sched_getaffinity(0))

    assert identity.processors(given) == usable
    assert identity.processors("3") == identity.processors(3) == 3
    assert identity.processors(None) == os.cpu_count()


# ── logs, files and names ───────────────────────────────────────────────────────────────

SPEAKER = """
import logging
import multiprocessing
import sys
import time

from pgtasks import Celery, signals
from pgtasks.utils.log import get_task_logger
from pgtasks.worker import state

app = Celery("speaker")
app.conf.worker_log_format = "W|%(levelname)s|%(name)s|%(message)s"
app.conf.worker_task_log_format = "T|%(levelname)s|%(task_name)s|%(message)s"
logger = get_task_logger(__name__)


@app.task(name="tests.speak")
def speak():
    logger.info("by the task's logger")
    logging.getLogger("library").warning("by a library")
    logging.getLogger("celery.worker").info("by one of ours")
    print("by print")
    print("by stderr", file=sys.stderr)
    return multiprocessing.current_process().index


@app.task(name="tests.end_a_process")
def end_a_process():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(30)
    return process.exitcode


@app.task(name="tests.revoke_here")
def revoke_here():
    state.revoked.add("kept")


@app.task(name="tests.is_revoked")
def is_revoked():
    return "kept" in state.revoked


@signals.after_setup_task_logger.connect
def add(logger, **kwargs):
    handler = logging.FileHandler("added.log")
    handler.setFormatter(logging.Formatter("A|%(message)s"))
    logger.addHandler(handler)
"""

SPOKEN = [
    "T|INFO|tests.speak|by the task's logger",
    "W|WARNING|library|by a library",
    "W|INFO|celery.worker|by one of ours",
    "W|WARNING|celery.redirected|by print",
    "W|WARNING|celery.redirected|by stderr",
]


def test_what_is_said_in_a_child_is_logged_by_the_settings(tmp_path, database_url, app):
    write(tmp_path / "tasks.py", SPEAKER)
    worker = LiveWorker(tmp_path, database_url, "-c", "1", "-C")
    app.send_task("tests.speak").get(timeout=20)
    worker.stop()

    said = worker.log().splitlines()
    assert [line for line in said if "|by " in line] == SPOKEN
    # A receiver's handler, added before the children were forked, works in them.
    assert "A|by the task's logger" in (tmp_path / "added.log").read_text().splitlines()


def test_each_process_may_have_a_log_of_its_own(tmp_path, database_url, app):
    write(tmp_path / "tasks.py", SPEAKER)
    worker = LiveWorker(
        tmp_path, database_url, "-n", "w1@here", "-c", "2", "-f", "%n%I.log",
        "--pidfile", "%n-%i.pid", ready_in="w1.log",
    )  # fmt: skip
    pid = (tmp_path / "w1-0.pid").read_text()
    answers = [app.send_task("tests.speak") for _ in range(6)]
    numbers = {answer.get(timeout=20) for answer in answers}
    worker.stop()

    assert pid == f"{worker.process.pid}\n"
    for number in numbers:
        said = (tmp_path / f"w1-{number + 1}.log").read_text().splitlines()
        count = said.count(SPOKEN[0])
        assert count >= 1
        assert [line for line in said if "|by " in line] == SPOKEN * count
    assert "by " not in (tmp_path / "w1.log").read_text()


def test_ids_that_a_program_revokes_itself_are_kept_in_a_file(tmp_path, database_url, app):
    write(tmp_path / "tasks.py", SPEAKER)
    words = ("-n", "w1@here", "-P", "solo", "--statedb", "%n-state")
    worker = LiveWorker(tmp_path, database_url, *words)
    app.send_task("tests.revoke_here").get(timeout=20)
    assert worker.stop() == 0
    again = LiveWorker(tmp_path, database_url, *words)

    assert app.send_task("tests.is_revoked").get(timeout=20) is True
    # A process that a task has forked gets its signals for itself.
    assert app.send_task("tests.end_a_process").get(timeout=40) == -signal.SIGTERM
    assert again.process.poll() is None
    assert again.stop() == 0
    assert list(tmp_path.glob("w1-state*"))


def test_a_state_database_that_is_none_is_named(pgtasks, tmp_path, database_url):
    (tmp_path / "state").write_text("no database")
    refused = pgtasks(
        "-A", "tasks", "worker", "-S", "state", PGTASKS_DATABASE_URL=database_url
    )

    assert refused.returncode == 73
    assert "Cannot open the state database state: " in refused.stderr
