"""Rows that anybody may have put into the table: none may cost a neighbour anything."""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from corpus import Case, cases
from workplace import LONGEST_TEXT, SECRET, Workplace, check_log, in_time, pgtasks

from helpers import children, eventually
from pgtasks.storage import health, jobs, schema
from pgtasks.storage.database import Database
from pgtasks.storage.query import in_schema

pytestmark = pytest.mark.journey


@dataclass
class Scene:
    """One case, where it is played, and what else pytest has."""

    case: Case
    workplace: Workplace
    behaviour: ModuleType
    request: pytest.FixtureRequest

    @property
    def rows(self) -> list[dict[str, str]]:
        rows = self.case.more["rows"]
        return ROWS[rows](self) if isinstance(rows, str) else rows

    @contextmanager
    def elsewhere(self, *options: str, hire: bool = True) -> Iterator[Workplace]:
        """A workplace of its own, for what would harm the others' tables."""
        from fix_postgres import _database

        postgres = self.request.getfixturevalue("postgres")
        template = self.request.getfixturevalue("template")
        name = f"pgtasks_bad_{uuid4().hex[:12]}"
        with _database(postgres, name, template):
            folder = self.request.getfixturevalue("tmp_path")
            workplace = Workplace(postgres.url_of(name), folder)
            try:
                if hire:
                    workplace.hire("-c", "2", *options)
                yield workplace
            finally:
                workplace.close()


@pytest.mark.parametrize("case", cases("table-row"))
def test_a_bad_row(
    case: Case,
    workplace: Workplace,
    behaviour: ModuleType,
    request: pytest.FixtureRequest,
):
    play = PLAYS.get(case.id) or PLAYS[case.expect]
    in_time(lambda: play(Scene(case, workplace, behaviour, request)))


PLAYS: dict[str, Callable[[Scene], None]] = {}
ROWS: dict[str, Callable[[Scene], list[dict[str, str]]]] = {}


def play(name: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """How an outcome is checked, or one case that needs more than that."""

    def add(function: Callable[[Scene], None]) -> Callable[[Scene], None]:
        PLAYS[name] = function
        return function

    return add


# ── outcomes ────────────────────────────────────────────────────────────────────────────


@play("reject_at_call")
def it_is_refused_by_the_table(scene: Scene):
    workplace = scene.workplace
    expected = getattr(psycopg.errors, scene.case.more["raises"])
    with workplace.undisturbed():
        for row in scene.rows:
            before = workplace.query(
                "select count(*) from pgtasks.jobs where task like '%witness'"
            )
            with pytest.raises(expected):
                workplace.put(row)
            after = workplace.query(
                "select count(*) from pgtasks.jobs where task like '%witness'"
            )
            assert before == after


@play("job_discarded")
def it_is_discarded_with_a_clear_error(scene: Scene):
    workplace = scene.workplace
    for task_id in put_and_wait(scene):
        check_discarded(workplace, task_id, scene.case.more["kind"])
    # The peak of a child that has read, or unpacked, what was too large.
    assert max(peak_of(pid) for pid in children(workplace.crew.pid)) < 300_000


@play("roundtrip")
def it_runs_once(scene: Scene):
    expected = eval(scene.case.more.get("sees", "((), {})"))
    for task_id in put_and_wait(scene):
        job = scene.workplace.job(task_id)
        assert job["state"] == "completed", job["errors"]
        assert scene.workplace.events(task_id) == ["ran"]
        seen = scene.behaviour.what_was_seen(json.loads(job["result"]))
        assert repr(seen) == repr(expected)


@play("safe_rendered")
def it_is_shown_escaped_wherever_it_is_shown(scene: Scene):
    workplace = scene.workplace
    mark = len(workplace.crew.log().encode(errors="surrogateescape"))
    ids = put_and_wait(scene)
    log = workplace.crew.log(mark)
    check_log(log)
    assert not re.search(r"^INFO fake", log, re.MULTILINE)
    for task_id in ids:
        if workplace.state(task_id) == "discarded":
            check_discarded(workplace, task_id, scene.case.more["kind"])
        # There is no page that could show it as HTML yet; the terminal is one that can be
        # harmed in its own way.
        shown = pgtasks(workplace.url, "result", task_id)
        assert shown.returncode == (workplace.state(task_id) == "discarded"), shown.stderr
        check_log(shown.stdout + shown.stderr)
        assert not re.search(r"^INFO fake", shown.stdout + shown.stderr, re.MULTILINE)


def put_and_wait(scene: Scene) -> list[str]:
    """Have the rows claimed together with their neighbours; wait until they are over."""
    workplace, rows = scene.workplace, scene.rows
    with workplace.undisturbed(together=True):
        ids = workplace.put(*rows)
    workplace.wait(*ids)
    with workplace.undisturbed():
        pass
    return ids


def release(workplace: Workplace, ids: list[str]) -> None:
    workplace.query(
        "update pgtasks.jobs set state = 'available', scheduled_at = clock_timestamp() "
        "where task_id = any(%s)",
        ids,
    )


def check_discarded(workplace: Workplace, task_id: str, kind: str) -> None:
    job = workplace.job(task_id)
    assert job["state"] == "discarded"
    [error] = job["errors"]
    assert re.search(rf"(^|\.)({kind})$", error["kind"]), error
    assert error["message"]
    assert len(error["message"]) <= LONGEST_TEXT
    assert len(error["traceback"]) <= LONGEST_TEXT
    assert workplace.events(task_id) == [], "it has run"


def peak_of(pid: int) -> int:
    """The most memory that a process ever had, in kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


# ── arguments ───────────────────────────────────────────────────────────────────────────


def gzip_bomb() -> bytes:
    """Ten megabytes that become ten gigabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"[[]") + packer.flush(zlib.Z_FULL_FLUSH)
    million = packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block knows nothing of those before it, so it can be repeated.
    return head + million * 10_000


def bzip2_bomb() -> bytes:
    """Some kilobytes that become a gigabyte."""
    import bz2

    packer = bz2.BZ2Compressor(9)
    return (
        b"".join([packer.compress(b" " * 10_000_000) for _ in range(40)]) + packer.flush()
    )


def bombs(scene: Scene) -> list[dict[str, str]]:
    gz, bz = (f"'\\x{bomb().hex()}'" for bomb in (gzip_bomb, bzip2_bomb))
    return [
        {"body": gz, "content_encoding": "'application/x-gzip'"},
        {"body": bz, "content_encoding": "'application/x-bz2'"},
        {"body": gz, "content_encoding": "'gzip'"},
        {"body": "'[[],{},{}]'", "content_encoding": "'application/x-nope'"},
    ]


class Touch:
    """Something that does harm when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {shlex.quote(str(self.path))}",)


def evil_pickles(scene: Scene) -> list[dict[str, str]]:
    path = scene.request.getfixturevalue("tmp_path") / "touched"
    evil = pickle.dumps([[Touch(path)], {}, {}])
    scene.request.addfinalizer(lambda: check_absent(path))
    return [
        {
            "body": f"'\\x{evil.hex()}'",
            "content_type": "'application/x-python-serialize'",
            "content_encoding": encoding,
        }
        for encoding in ("'binary'", "'application/x-gzip'", "null")
    ]


def check_absent(path: Path) -> None:
    assert not path.exists(), "what was forbidden has been unpickled"


ROWS.update(gzip_bomb=bombs, pickle=evil_pickles)


# ── names ───────────────────────────────────────────────────────────────────────────────


@play("table-row-name-ansi")
def terminal_escapes_reach_no_terminal(scene: Scene):
    it_is_shown_escaped_wherever_it_is_shown(scene)
    workplace = scene.workplace
    # A queue can be called so as well, and 'doctor' lists queues.
    [task_id] = workplace.put({"queue": "E'\\x1b[2J\\nok'"})

    shown = pgtasks(workplace.url, "doctor")

    check_log(shown.stdout + shown.stderr)
    assert r"\x1b[2J\nok" in shown.stdout
    workplace.query("delete from pgtasks.jobs where task_id = %s", task_id)


# ── times ───────────────────────────────────────────────────────────────────────────────


@play("table-row-sched-infinity")
def what_is_never_due_waits_for_ever_and_is_counted(scene: Scene):
    workplace = scene.workplace
    with workplace.undisturbed():
        never = workplace.put(
            {"state": "'scheduled'", "scheduled_at": "'infinity'"},
            {"state": "'retryable'", "scheduled_at": "'infinity'"},
        )
        # Made available by hand: whoever does that wants it to run.
        now, due = workplace.put(
            {"scheduled_at": "'infinity'"},
            {
                "state": "'scheduled'",
                "scheduled_at": "clock_timestamp() + interval '0.1 s'",
            },
        )
        workplace.wait(now, due)

    assert set(workplace.states(never).values()) == {"scheduled", "retryable"}
    with database(workplace) as ours:
        [queue] = ours.run(health.backlog())
        assert (queue.later, queue.waiting) == (2, 0)
        assert {each.state: each.age for each in ours.run(jobs.count())} == {
            "scheduled": float("-inf"),
            "retryable": float("-inf"),
        }
    assert pgtasks(workplace.url, "inspect", "scheduled").returncode == 0
    assert "2 later" in pgtasks(workplace.url, "doctor").stdout
    workplace.query("delete from pgtasks.jobs where task_id = any(%s)", never)


@contextmanager
def database(workplace: Workplace) -> Iterator[Database]:
    ours = Database(workplace.url)
    yield ours
    ours.close()


@play("table-row-claim-dangling")
def what_nobody_holds_is_rescued(scene: Scene):
    it_runs_once(scene)
    workplace = scene.workplace
    nobodys = {
        "state": "'executing'",
        "worker": "gen_random_uuid()",
        "claim_token": "gen_random_uuid()",
    }
    with workplace.undisturbed():
        # Not safe to run again; and one that was lost more often than can be counted.
        ids = workplace.put(nobodys, {**nobodys, "rerun": "true", "lost": "2147483647"})
        workplace.wait(*ids)
    for task_id in ids:
        check_discarded(workplace, task_id, "WorkerLostError")


# ── columns that people use ─────────────────────────────────────────────────────────────


@play("table-row-errors-huge")
def nobody_reads_a_huge_history_and_the_next_error_ends_it(scene: Scene):
    workplace = scene.workplace
    compressible = "jsonb_build_array(jsonb_build_object('message', repeat('x', 50000000)))"
    incompressible = (
        "(select jsonb_agg(jsonb_build_object('message', md5(n::text))) "
        "from generate_series(1, 500000) as n)"
    )
    rows = [
        {"state": "'suspended'", "errors": errors, "task": task}
        for errors in (compressible, incompressible)
        for task in ("'behaviour.witness'", "'gone.task'")
    ]
    ids = workplace.put(*rows)
    with workplace.undisturbed(together=True):
        release(workplace, ids)
    workplace.wait(*ids)

    for task_id, row in zip(ids, rows, strict=True):
        [(size, entries)] = workplace.query(
            "select pg_column_size(errors), jsonb_array_length(errors) "
            "from pgtasks.finished_jobs where task_id = %s",
            task_id,
        )
        assert size < 1_000_000
        if row["task"] == "'gone.task'":
            assert entries == 1
            [error] = workplace.job(task_id)["errors"]
            assert error["kind"] == "NotRegistered"
    # The worker never had it in its hands.
    assert peak_of(workplace.crew.pid) < 300_000


@play("table-row-unique-null")
def what_is_written_into_the_column_of_keys_keeps_nobody_out(scene: Scene):
    workplace = scene.workplace
    keys = ["''", "''", "null", "'x'", "'x'"]
    ids = workplace.put(*[{"unique_key": key} for key in keys])
    assert set(workplace.wait(*ids).values()) == {"completed"}
    # Who has a key stands in a table of its own, where it is had once.
    taken = "insert into pgtasks.unique_keys (key, task_id) values ('', 'nobody')"
    workplace.query(taken)
    with pytest.raises(psycopg.errors.UniqueViolation):
        workplace.query(taken)


@play("table-row-cron-row-dup")
def one_tick_is_sent_once(scene: Scene):
    workplace = scene.workplace
    tick = "insert into pgtasks.cron_ticks (entry, tick) values ('nightly', '2026-01-01')"
    with workplace.undisturbed():
        workplace.query(tick)
        with pytest.raises(psycopg.errors.UniqueViolation):
            workplace.query(tick)
        assert workplace.query("select count(*) from pgtasks.cron_ticks") == [(1,)]


# ── many ────────────────────────────────────────────────────────────────────────────────


@play("table-row-1m-same-prio")
def a_million_rows_are_claimed_in_order_without_being_sorted(scene: Scene):
    with scene.elsewhere() as workplace, database(workplace) as ours:
        workplace.query(
            "insert into pgtasks.jobs (task, task_id, queue, scheduled_at) "
            "select 'behaviour.good', 'm' || n, 'crowd', '2026-01-01' "
            "from generate_series(1, 1000000) as n"
        )
        [(worker,)] = workplace.query("select id::text from pgtasks.workers")

        def claim(mark: jobs.Mark) -> Any:
            return jobs.fetch(
                {"crowd": mark}, demand=100, worker=worker, token=str(uuid4())
            )

        with workplace.undisturbed():
            mark, ids = jobs.LOWEST, []
            for _ in range(20):
                claimed = ours.run(claim(mark))
                ids += [job.id for job in claimed.jobs]
                mark = claimed.marks["crowd"]
        assert ids == sorted(ids)
        assert len(set(ids)) == 2000

        nodes = list(plan_of(ours, claim(mark)))
        scans = [node for node in nodes if node.get("Index Name") == "jobs_ready"]
        assert scans, nodes
        assert not any(node["Node Type"] == "Seq Scan" for node in nodes), nodes
        # What is sorted is what was found, not what waits.
        touched = max(node["Actual Rows"] * node["Actual Loops"] for node in nodes)
        assert touched <= 200, nodes


def plan_of(ours: Database, query: Any) -> Iterator[dict[str, Any]]:
    """The nodes of a statement's plan, with what they did, as a worker's session plans it."""
    with ours.connection() as session:
        cursor = psycopg.ClientCursor(session)
        text = cursor.mogrify(in_schema(query.statement, "pgtasks"), dict(query.params))
        [(found,)] = session.execute(
            f"explain (analyze, format json) {text}".encode()
        ).fetchall()

    def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for below in node.get("Plans", ()):
            yield from walk(below)

    return walk(found[0]["Plan"])


# ── rows that change under a running job ────────────────────────────────────────────────


def refused(workplace: Workplace) -> int:
    """How many ends the workers could not write, as they count them themselves."""
    from pgtasks import Celery

    with Celery("asks", broker=workplace.url, set_as_current=False) as app:
        replies = app.control.inspect(timeout=10).stats() or {}
    return sum(reply["worker"]["refused"] for reply in replies.values())


def remarks(workplace: Workplace) -> int:
    return sum(crew.log().count("is no longer ours") for crew in workplace.crews)


@play("table-row-deleted-while-running")
def a_deleted_row_is_counted_and_the_job_forgotten(scene: Scene):
    # Of its own, as the remark is made once a minute only.
    with scene.elsewhere() as workplace:
        for number in range(1, 4):
            with workplace.undisturbed():
                task_id = workplace.call("gated")
                workplace.await_event(task_id, "began")
                workplace.query("delete from pgtasks.jobs where task_id = %s", task_id)
                workplace.open_gate(task_id)
                workplace.await_event(task_id, "ended")
                eventually(lambda number=number: refused(workplace) == number)
            assert workplace.state(task_id) is None
            assert remarks(workplace) == 1


@play("table-row-truncated")
def a_truncated_table_is_survived(scene: Scene):
    with scene.elsewhere() as workplace:
        with workplace.undisturbed() as good:
            task_id = workplace.call("gated")
            workplace.await_event(task_id, "began")
            workplace.wait(*good)
            workplace.query("truncate pgtasks.jobs")
            workplace.open_gate(task_id)
            eventually(lambda: refused(workplace) == 1)
        assert workplace.states([task_id]) == {}
        assert remarks(workplace) == 1


@play("table-row-updated-by-hand")
def a_job_made_available_by_hand_runs_again_and_the_first_run_is_not_believed(scene: Scene):
    workplace = scene.workplace
    # With one process both runs are in the hands of the same one.
    for processes in ("1", "2"):
        queue = {"queue": f"'by-hand-{processes}'"}
        crew = workplace.hire("-c", processes, queue=f"by-hand-{processes}", lease=1.0)
        # From short jobs it learns to claim the next one before this one is over.
        workplace.wait(*workplace.put(*[{"task": "'behaviour.good'", **queue}] * 50))
        with workplace.undisturbed():
            task_id = workplace.call("gated", **queue)
            workplace.await_event(task_id, "began")
            workplace.query(
                "update pgtasks.jobs set state = 'available' where task_id = %s", task_id
            )
            eventually(lambda task_id=task_id: claims(workplace, task_id) == 2)
            workplace.open_gate(task_id, run=1)
            workplace.await_event(task_id, "began", times=2)
            # Long enough for the worker to audit its books more than twice.
            beat = workplace.beat_of(crew)
            eventually(
                lambda crew=crew, beat=beat: workplace.beat_of(crew) >= beat + 14,
                timeout=20,
            )
            assert claims(workplace, task_id) == 2
            workplace.open_gate(task_id, run=2)
            assert workplace.wait(task_id) == {task_id: "completed"}
        assert workplace.job(task_id)["attempt"] == 2
        assert workplace.job(task_id)["result"] == '"run 2"'
        assert workplace.events(task_id).count("began") == 2
        assert crew.stop() == 0


def claims(workplace: Workplace, task_id: str) -> int:
    """How often a job that runs has been claimed."""
    [(attempt,)] = workplace.query(
        "select attempt from pgtasks.jobs where state = 'executing' and task_id = %s",
        task_id,
    ) or [(0,)]
    return attempt


# ── tables that are not ours any more ───────────────────────────────────────────────────


@play("table-row-column-dropped")
def a_worker_without_its_columns_says_so_and_waits(scene: Scene):
    with scene.elsewhere() as workplace:
        crew = workplace.crew
        with workplace.undisturbed():
            pass
        workplace.query("alter table pgtasks.jobs drop column group_index cascade")
        waiting = workplace.neighbours(3)
        eventually(lambda: "Cannot claim jobs" in crew.log(), message=crew.log)

        before = statements(workplace)
        eventually(lambda: seconds_since(workplace, before[0]) >= 3)
        count = statements(workplace)[1] - before[1]

        newest = max(each.version for each in schema.find())
        [line] = [each for each in crew.log().splitlines() if "Cannot claim jobs" in each]
        assert f"needs version {newest} of the schema" in line
        assert 'column "group_index" of relation' in line or "group_index does not" in line
        assert "Traceback" not in crew.log()
        check_log(crew.log())
        assert crew.process.poll() is None
        assert count <= 3 * 60, f"{count} transactions in 3 s"
        assert set(workplace.states(waiting).values()) == {"available"}

        # Somebody mends it: work goes on by itself.
        workplace.query("alter table pgtasks.jobs add column group_index integer")
        assert set(workplace.wait(*waiting).values()) == {"completed"}
        with workplace.undisturbed():
            pass


def statements(workplace: Workplace) -> tuple[str, int]:
    """The server's time, and how many transactions there have been."""
    return workplace.query(
        "select clock_timestamp()::text, xact_commit + xact_rollback from pg_stat_database "
        "where datname = current_database()"
    )[0]


def seconds_since(workplace: Workplace, moment: str) -> float:
    [(seconds,)] = workplace.query(
        "select extract(epoch from clock_timestamp() - %s::timestamptz)::float8", moment
    )
    return seconds


def refuses_to_start(workplace: Workplace) -> str:
    """A worker does not start here; what it says instead, in one line."""
    ended = pgtasks(workplace.url, "worker", "-l", "info")
    assert ended.returncode == 78, ended
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    check_log(ended.stdout + ended.stderr)
    [line] = [each for each in ended.stderr.splitlines() if each.startswith("Error:")]
    return line


@play("table-row-schema-newer")
def a_worker_refuses_tables_that_it_does_not_understand(scene: Scene):
    future = (
        "insert into pgtasks.migrations (version, name, checksum, breaking) "
        "values (%s, %s, '', %s)"
    )
    with scene.elsewhere(hire=False) as workplace:
        # One that old programs can live with.
        workplace.query(future, 9998, "wider", False)
        workplace.hire("-c", "2")
        with workplace.undisturbed():
            pass
        assert workplace.crew.stop() == 0

        workplace.query(future, 9999, "other", True)
        line = refuses_to_start(workplace)

    assert "9999_other" in line
    assert "pip install --upgrade pgtasks" in line


@play("table-row-schema-older")
def a_worker_tells_the_command_that_brings_old_tables_up_to_date(scene: Scene):
    url = scene.request.getfixturevalue("fresh_database")
    schema.apply(url, to=3)
    workplace = Workplace(url, scene.request.getfixturevalue("tmp_path"))
    try:
        line = refuses_to_start(workplace)
        assert "lacks 0004_crons" in line
        words = shlex.split(line.partition("Run: ")[2].partition("  (")[0])
        assert words[:3] == ["pgtasks", "schema", "apply"]

        # It is the very command.
        environment = {**os.environ, "PGPASSWORD": SECRET}
        command = [sys.executable, "-m", *words]
        assert subprocess.run(command, env=environment, check=False).returncode == 0
        workplace.hire("-c", "2")
        with workplace.undisturbed():
            pass
    finally:
        workplace.close()
