"""The planner takes our indexes, however large the tables and whatever is held open.

Looked at as our sessions run them: with our settings, prepared, and planned generically,
be it when the tables were full or when they were empty, for a plan is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from fix_postgres import _database
from pgtasks.job import Job, NewJob, Outcome
from pgtasks.storage import (
    admin,
    browse,
    crons,
    diagnosis,
    health,
    jobs,
    leaders,
    limits,
    mailbox,
    postponing,
    pruning,
    queues,
    results,
    revocations,
    settling,
    trials,
    uniques,
    upkeep,
    workers,
)
from pgtasks.storage.connections import Session
from pgtasks.storage.database import Database, compiled
from pgtasks.storage.query import Query

ROWS = 50_000
WORKER, DEAD, TOKEN = (str(uuid4()) for _ in range(3))
RULE = {"blocks": ["scheduled", "available", "completed"], "period": 60.0}
SEAT = leaders.Seat("plugins", 1, WORKER, 600.0)
RULES = '{"states": {"completed": "40000.0"}, "queues": {}, "tasks": {}}'
MARKS = {"q0": jobs.LOWEST, "q1": jobs.LOWEST}

A_JOB = Job(
    *[100, "j100", "t", "q0", 0],
    *[None] * (Job._fields.index("claim_token") - 5),
    claim_token=TOKEN,
)

QUERIES: dict[str, Query[Any]] = {
    "insert one": jobs.insert([NewJob("t", "new", queue="q0")]),
    "insert": jobs.insert([NewJob("t", "new", queue="q0", delay=1.0)]),
    "insert again": jobs.insert([NewJob("t", "new", queue="q0")], again=True),
    "insert one unique": next(
        uniques.insertion([NewJob("t", "new", unique_key="k2", uniqueness=RULE)])
    ),
    "insert unique": next(
        uniques.insertion([NewJob("t", "new", delay=1, unique_key="k2", uniqueness=RULE)])
    ),
    "insert or replace": next(
        uniques.insertion(
            [
                NewJob(
                    "t",
                    "new",
                    unique_key="k2",
                    uniqueness={**RULE, "replaces": {"available": ["args"]}},
                )
            ]
        )
    ),
    "take turns": uniques.take_turns([(A_JOB, "k100")]),
    "pass on": uniques.pass_on(["k100"]),
    "forget keys": uniques.forget("k2", limit=100),
    "forget turns": uniques.forget_turns(),
    "fetch": jobs.fetch(MARKS, demand=100, worker=WORKER, token=TOKEN),
    "fetch queue": jobs.fetch({"q0": jobs.LOWEST}, demand=100, worker=WORKER, token=TOKEN),
    "recover": jobs.recover(worker=WORKER, token=TOKEN),
    "ack": jobs.ack(
        [
            jobs.settle(Outcome(id, TOKEN, "completed", result="1"), f"j{id}")
            for id in range(100, 20_100, 100)
        ]
    ),
    "ack and claim": jobs.ack(
        [
            jobs.settle(
                Outcome(
                    100, TOKEN, "completed", follow_ups=[NewJob("t", "next", queue="q0")]
                ),
                "j100",
            )
        ],
        jobs.Claim(WORKER, TOKEN, ["q0"], [], 2**30),
    ),
    "settle itself": settling.settle(
        jobs.settle(Outcome(100, TOKEN, "completed", result="1"), "j100")
    ),
    "standing": settling.standing(jobs.settle(Outcome(100, TOKEN, "completed"), "j100")),
    "settled": jobs.settled([jobs.settle(Outcome(7, TOKEN, "completed"), "f7")]),
    "salvage": jobs.salvage(jobs.settle(Outcome(7, TOKEN, "completed"), "f7")),
    "stage": jobs.stage(worker=WORKER),
    "progress": jobs.progress("j7", "PROGRESS", None),
    "purge": jobs.purge(["q0"], limit=100),
    "recount": jobs.recount(),
    "prune": jobs.prune(86400.0, limit=100),
    "walk": pruning.prune(SEAT, age=40000.0, key="40000.0", rules=RULES, limit=100),
    "prune workers": pruning.prune_workers(SEAT, 3600.0),
    "counts": upkeep.counts(10.0),
    "read": results.read(["j7", "f7"]),
    "read failed": results.read_failed(["j7", "f7"]),
    "members": results.members("g7"),
    "await": results.await_(["j7", "j8"]),
    "await descendants": results.await_descendants(["j8"], {"j8": ["j7", "f7"]}),
    "forget": results.forget(["f7"]),
    "store": results.store("f7", state="completed", status=None, result="1"),
    "look": workers.look(WORKER, name="w", queues=["q0", "q1"]),
    "graves": workers.graves(),
    "rescue": workers.rescue(worker=WORKER, traced=[DEAD], begun=[1]),
    "audit": workers.audit(WORKER),
    "look up scheduled": mailbox.look_up(["j7", "j8"], ["q0"]),
    "postpone": postponing.postpone([(A_JOB, 10.0)]),
    "bring forward": postponing.bring_forward(["t"], limit=100),
    "note revocations": revocations.note(["j7", "f7", "new"]),
    "forget revocations": revocations.forget(["j7"]),
    "scheduled": mailbox.scheduled(["q0"], limit=100),
    "overdue": health.overdue(),
    "backlog": health.backlog(),
    "count": jobs.count(),
    "cancel": admin.cancel(["j7", "j8"], result=None),
    "cancellable": admin.cancellable(["j7", "j8"]),
    "enqueued": trials.enqueued(),
    "newest": trials.newest(),
    "take": trials.take(worker=WORKER, token=TOKEN, began="2020-01-01T00:00:00+00:00"),
    "fetch through gates": limits.fetch(
        MARKS, demand=100, worker=WORKER, token=TOKEN, freed={"rate:t": 1}
    ),
    "give places back": limits.release([100, 200]),
    "sweep places": limits.release(None),
    "lines": limits.lines(),
    "tidy": limits.tidy(),
    "occupy": limits.occupy("q0"),
    "words": queues.words("w"),
    "waiting": queues.waiting(["q0", "q1"], most=100),
    "queues": queues.list_(),
    "stamped": admin.stamped('{"tenant": ["a"]}'),
    "running": admin.running(["j7", "j100"]),
    "retry": admin.retry(["j7", "f7"]),
    "delete": admin.delete(["j7", "f7"]),
    "hold": admin.hold(["j7", "j8"]),
    "release": admin.release(["j7", "j8"]),
    "update": admin.update(["j7", "j8"], {"queue": "q1"}),
    "look up": browse.look_up(["j7", "f7"]),
    "list": browse.list_("{}", sort="inserted", descending=True, limit=100),
    "tally": browse.tally("{}", by=["queue"]),
    "find": browse.find('{"states": ["discarded"]}'),
    "surroundings": diagnosis.ahead(8),
    "occupied": diagnosis.occupied([WORKER]),
    "chord members": diagnosis.members("g7"),
    "gates of one": diagnosis.gates(8),
    "turn of one": diagnosis.turn(8),
    "grant": crons.grant(
        SEAT,
        [
            {
                "id": id,
                "follows": "2020-01-01T00:00:00+00:00",
                "last": "2020-01-02T00:00:00+00:00",
                "runs": 1,
                "task_id": f"tick{id}",
                "ticks": [{"tick": "2020-01-02T00:00:00+00:00", "task_id": f"tick{id}"}],
            }
            for id in range(1, 31)
        ],
    ),
    "claim": crons.claim(
        SEAT,
        app="",
        entries=[
            {
                "name": f"c{number}",
                "identity": "other",
                "task": "t",
                "schedule": "@daily",
                "catch_up": "last",
                "overlap": "skip",
                "jitter": 0,
                "by_hours": True,
            }
            for number in range(500, 1500)
        ],
        fresh=True,
    ),
}

# Which indexes a statement may find rows of the large tables by.
INDEXES = {
    "look up scheduled": {"jobs_task_id_key"},
    "postpone": {"jobs_pkey"},
    "bring forward": {"jobs_pkey", "jobs_due"},
    "note revocations": {"jobs_task_id_key", "finished_jobs_pkey"},
    "forget revocations": {"revoked_tasks_pkey"},
    "insert": {"finished_jobs_pkey", "jobs_parked"},
    "insert again": {"finished_jobs_pkey", "jobs_parked"},
    "insert one": set(),
    "insert one unique": {"jobs_task_id_key", "finished_jobs_pkey"},
    "insert unique": {"jobs_task_id_key", "finished_jobs_pkey", "jobs_parked"},
    "insert or replace": {
        "jobs_task_id_key",
        "jobs_pkey",
        "finished_jobs_pkey",
        "jobs_parked",
    },
    "take turns": {"jobs_pkey"},
    "pass on": {"jobs_pkey"},
    "forget keys": {"jobs_task_id_key", "finished_jobs_pkey"},
    "forget turns": {"jobs_pkey"},
    "fetch": {"jobs_ready", "jobs_pkey"},
    "fetch queue": {"jobs_ready", "jobs_pkey"},
    "recover": {"jobs_executing"},
    "ack": {"jobs_pkey", "jobs_awaits", "jobs_parked"},
    "ack and claim": {"jobs_pkey", "jobs_awaits", "jobs_parked"},
    "settle itself": {"jobs_pkey", "jobs_awaits", "jobs_parked"},
    "standing": {"jobs_pkey"},
    "settled": {"finished_jobs_pkey"},
    "salvage": {"finished_jobs_pkey", "jobs_parked"},
    "stage": {"jobs_due", "jobs_pkey"},
    "progress": {"jobs_task_id_key", "jobs_executing"},
    "prune": {"finished_jobs_finished", "finished_jobs_pkey"},
    "walk": {"finished_jobs_finished"},
    "prune workers": {"jobs_executing"},
    "read": {"jobs_task_id_key", "finished_jobs_pkey"},
    "read failed": {"jobs_task_id_key", "finished_jobs_pkey"},
    "members": {"finished_jobs_members"},
    "recount": {"jobs_awaits", "jobs_chord"},
    "await": {"jobs_task_id_key", "jobs_pkey"},
    "await descendants": {"jobs_task_id_key", "jobs_awaits", "jobs_pkey"},
    "forget": {"finished_jobs_pkey"},
    "store": set(),
    "look": {"jobs_executing", "jobs_chord", "jobs_awaits", "jobs_ready", "jobs_due"},
    "graves": {"jobs_executing"},
    "rescue": {"jobs_executing", "jobs_pkey"},
    "audit": {"jobs_executing"},
    "scheduled": {"jobs_due"},
    "overdue": {"jobs_due"},
    "cancel": {"jobs_task_id_key", "jobs_pkey", "jobs_awaits"},
    "cancellable": {"jobs_task_id_key"},
    "fetch through gates": {"jobs_ready", "jobs_pkey", "jobs_trying", "jobs_parked"},
    "give places back": {"jobs_pkey"},
    "sweep places": {"jobs_pkey"},
    "lines": {"jobs_parked"},
    "tidy": {"jobs_parked"},
    "occupy": {"jobs_executing"},
    "running": {"jobs_task_id_key", "jobs_executing"},
    "retry": {"jobs_task_id_key", "jobs_pkey", "jobs_chord", "finished_jobs_pkey"},
    "delete": {"jobs_task_id_key", "jobs_pkey", "jobs_awaits", "finished_jobs_pkey"},
    "hold": {"jobs_task_id_key", "jobs_pkey"},
    "release": {"jobs_task_id_key", "jobs_pkey"},
    "update": {"jobs_task_id_key", "jobs_pkey"},
    "look up": {"jobs_task_id_key", "finished_jobs_pkey"},
    "surroundings": {"jobs_pkey", "jobs_ready"},
    "occupied": {"jobs_executing"},
    "chord members": {"jobs_chord"},
    "gates of one": {"jobs_pkey"},
    "turn of one": {"jobs_pkey"},
    "grant": {"jobs_task_id_key"},
    "claim": set(),
    "words": {"jobs_trying", "jobs_parked"},
    "waiting": {"jobs_ready"},
}

# What people ask for now and then, about every unfinished job.
READ_EVERYTHING = {
    "backlog",
    "count",
    "purge",
    "stamped",
    "enqueued",
    "newest",
    "take",
    "queues",
    "counts",
    "list",
    "tally",
    "find",
}

# Pages that a statement may look at to find nothing, its one, or its hundreds of rows.
PAGES = {
    "insert one unique": 50, "insert unique": 100, "insert or replace": 100,
    "take turns": 50, "pass on": 50,
    "forget keys": 1500, "insert": 100, "insert one": 50, "fetch": 2500,
    "fetch queue": 2500, "stage": 50,
    "prune": 50, "ack": 10_000, "audit": 700, "read": 20, "scheduled": 800, "overdue": 50,
    "look": 700, "walk": 1500, "grant": 2000, "claim": 15_000,
}  # fmt: skip

# What a session has beside our usual settings.
SETTINGS = {"ack": jobs.ACK_SETTINGS, "ack and claim": jobs.ACK_SETTINGS}


class Plan:
    """What the server did, or would do, with a statement."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.top = document["Plan"]
        self.nodes = list(self._walk(self.top))

    def _walk(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # Of a scan by bitmap, the table stands in one node and the index below it.
        for below in node.get("Plans", ()):
            below.setdefault("Relation Name", node.get("Relation Name"))
            yield from self._walk(below)
        yield node

    @property
    def indexes(self) -> set[str]:
        """Indexes of the large tables."""
        used = {node.get("Index Name", "") for node in self.nodes}
        return {name for name in used if name.startswith(("jobs_", "finished_jobs_"))}

    @property
    def read_whole(self) -> set[str]:
        """Large tables that are read from end to end, be it through an index."""
        found = set()
        for node in self.nodes:
            unbounded = "Index" in node["Node Type"] and "Index Cond" not in node
            if node["Node Type"] == "Seq Scan" or (unbounded and not self._bounded(node)):
                found.add(node["Relation Name"])
        return found & {"jobs", "finished_jobs", "unique_keys"}

    @staticmethod
    def _bounded(node: dict[str, Any]) -> bool:
        # A partial index is itself a condition: what runs now, what waits for a chord.
        return node["Index Name"] in (
            "jobs_executing",
            "jobs_awaits",
            "jobs_parked",
            "jobs_trying",
        )

    @property
    def compared(self) -> int:
        """Pairs of rows that joins looked at in vain."""
        return sum(
            node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
            for node in self.nodes
        )

    @property
    def pages(self) -> int:
        return self.top["Shared Hit Blocks"] + self.top["Shared Read Blocks"]

    def __repr__(self) -> str:
        return json.dumps(self.top, indent=1)


class Planner:
    """Prepares statements once and asks how the server goes about them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.names: dict[str, tuple[str, tuple[str, ...]]] = {}

    def prepare(self, statement: str) -> None:
        if statement not in self.names:
            text, params = compiled(statement, "pgtasks")
            name = f"asked_{len(self.names)}"
            self.session.execute(f"prepare {name} as ".encode() + text)
            self.names[statement] = name, params

    def explain(self, query: Query[Any]) -> Plan:
        """The plan, and what it costs when it runs, which is taken back."""
        self.prepare(query.statement)
        name, params = self.names[query.statement]
        values = sql.SQL(", ").join(sql.Literal(query.params[param]) for param in params)
        call = sql.SQL("execute {}" + ("({})" if params else "{}"))
        ask = sql.SQL("explain (analyze, buffers, timing off, format json) {}")
        with self.session.transaction(force_rollback=True):
            cursor = psycopg.ClientCursor(self.session)
            cursor.execute(ask.format(call.format(sql.Identifier(name), values)))
            return Plan(cursor.fetchone()[0][0])


class House:
    """A database with many rows, and the sessions that ask about it.

    Args:
        url: Where it is; its tables are empty yet.
        stack: Closes what is opened here.
        early: Make the plans before there are rows, from statistics that say so.
    """

    def __init__(self, url: str, stack: ExitStack, *, early: bool) -> None:
        self.url = url
        self.database = Database(url)
        stack.callback(self.database.close)
        self._planners: dict[str, Planner] = {}
        for name in QUERIES:
            session = stack.enter_context(self.database.connection(SETTINGS.get(name)))
            self._planners[name] = Planner(session)
        for id in (WORKER, DEAD):
            self.database.run(
                workers.register(
                    id=id, name=id, hostname="h", pid=1, machine="m", process_started=1.0,
                    begun_file=None, lease=600.0, queues=["q0"], pool="solo",
                    concurrency=1, version="0", info={},
                )
            )  # fmt: skip
        self.database.run(leaders.stand("plugins", holder=WORKER, node="w", lease=600.0))
        with psycopg.connect(url, autocommit=True) as connection:
            for table in ("jobs", "finished_jobs"):
                # It would tell the planner of the rows behind our back.
                connection.execute(
                    f"alter table pgtasks.{table} set (autovacuum_enabled = off)".encode()
                )
            if early:
                connection.execute("vacuum analyze")
                for name in QUERIES:
                    self.explain(name)
            fill(connection)
            if not early:
                connection.execute("vacuum analyze")
        # What a session reads of the catalog for its first run counts as pages, too.
        for name in QUERIES:
            self.explain(name)

    def explain(self, name: str, query: Query[Any] | None = None) -> Plan:
        return self._planners[name].explain(query or QUERIES[name])


def fill(connection: psycopg.Connection[Any]) -> None:
    """Of each hundred jobs one runs, half wait and the others are due in days."""
    connection.execute(
        """
        insert into pgtasks.jobs (
            task, task_id, queue, scheduled_at, state, worker, claim_token, attempted_at
        )
        select 't', 'j' || n, 'q' || n %% 7,
               case when n %% 2 = 0 then now() - interval '1 hour' + n * interval '1 ms'
                    else now() + interval '1 day' + n * interval '1 s' end,
               case when n %% 100 = 0 then 'executing' when n %% 2 = 0 then 'available'
                    else 'scheduled' end::pgtasks.job_state,
               case when n %% 100 = 0 then %(worker)s::uuid end,
               case when n %% 100 = 0 then %(token)s::uuid end, now()
        from generate_series(1, %(rows)s::int) as n
        """,
        {"rows": ROWS, "worker": WORKER, "token": str(uuid4())},
    )
    connection.execute(
        """
        insert into pgtasks.finished_jobs (
            id, scheduled_at, inserted_at, finished_at, state, attempt, retries, crashes,
            lost, priority, task, task_id, queue, args, kwargs, errors, meta, tags
        )
        select n, now(), now(), now() - (%(rows)s - n) * interval '1 s', 'completed', 1, 0,
               0, 0, 0, 't', 'f' || n, 'q', '[]', '{}', '[]', '{}', '{}'
        from generate_series(1, %(rows)s::int) as n
        """,
        {"rows": ROWS},
    )
    connection.execute(
        """
        insert into pgtasks.unique_keys (key, task_id)
        select 'k' || n, case when n %% 2 = 0 then 'j' else 'f' end || n
        from generate_series(1, %(rows)s::int) as n
        """,
        {"rows": ROWS},
    )
    connection.execute(
        """
        insert into pgtasks.revoked_tasks (task_id)
        select 'r' || n from generate_series(1, %(rows)s::int) as n
        """,
        {"rows": ROWS},
    )
    connection.execute(
        """
        insert into pgtasks.turns (key, job_id, claim_token)
        select 'k' || n, n, %(token)s::uuid from generate_series(100, 20000, 100) as n
        """,
        {"token": TOKEN},
    )
    connection.execute(
        """
        insert into pgtasks.crons (name, source, overlap, office, last_tick, last_task_id)
        select 'c' || n, 'code', 'skip', 'plugins', '2020-01-01T00:00:00+00:00', 'j' || n
        from generate_series(1, 1000) as n
        """
    )
    connection.execute(
        """
        insert into pgtasks.parked_jobs (key, priority, job_id)
        select 'k' || n %% 10 * 100, 0, n from generate_series(1, %(rows)s::int, 2) as n
        """,
        {"rows": ROWS},
    )


@pytest.fixture(scope="module", params=["planned full", "planned empty"])
def house(
    request: pytest.FixtureRequest, postgres: Any, template: str, _names: str
) -> Iterator[House]:
    name = f"{_names}_plans"
    with _database(postgres, name, template), ExitStack() as stack:
        yield House(postgres.url_of(name), stack, early=request.param == "planned empty")


@pytest.fixture(scope="module", params=["planned full", "planned empty"])
def worn_house(
    request: pytest.FixtureRequest, postgres: Any, template: str, _names: str
) -> Iterator[House]:
    """One for tests that leave dead rows behind, which others would stumble over."""
    name = f"{_names}_worn"
    with _database(postgres, name, template), ExitStack() as stack:
        yield House(postgres.url_of(name), stack, early=request.param == "planned empty")


@pytest.mark.parametrize("name", INDEXES)
def test_a_statement_finds_its_rows_by_an_index(house: House, name: str) -> None:
    plan = house.explain(name)

    assert plan.read_whole == set(), plan
    assert plan.indexes <= INDEXES[name], plan


@pytest.mark.parametrize("name", PAGES)
def test_a_statement_of_the_daily_round_looks_at_few_pages(house: House, name: str) -> None:
    # Not the first run: it walks over the dead rows that other statements have left, and
    # marks them; unless the server itself, which counts rows, may still see them. No
    # vacuum, for that would have the plans made anew.
    house.explain(name)
    deadline = time.monotonic() + 30
    while True:
        plan = house.explain(name)
        if plan.pages <= PAGES[name] or time.monotonic() > deadline:
            break

    assert plan.pages <= PAGES[name], plan
    assert plan.compared <= 1000, plan


def test_every_statement_on_the_large_tables_is_looked_at() -> None:
    looked_at = {query.statement for query in QUERIES.values()}
    statements = {
        name: statement
        for module in (
            admin,
            browse,
            diagnosis,
            jobs,
            limits,
            queues,
            results,
            workers,
            mailbox,
            health,
            uniques,
            pruning,
            upkeep,
            crons,
            postponing,
            revocations,
        )
        for name, statement in module.SQL.items()
        if "pgtasks.jobs" in statement or "pgtasks.finished_jobs" in statement
    }

    # This one asks the server's statistics about the table, and this one its locks.
    assert {name for name, each in statements.items() if each not in looked_at} == {
        "dead_rows",
        "claiming",
    }
    assert QUERIES.keys() == INDEXES.keys() | READ_EVERYTHING


def test_a_claim_does_not_walk_through_the_dead_when_it_knows_a_mark(
    worn_house: House,
) -> None:
    def claim(mark: jobs.Mark) -> Plan:
        query = jobs.fetch({"q1": mark}, demand=10, worker=WORKER, token=TOKEN)
        return worn_house.explain("fetch", query)

    fresh = claim(jobs.LOWEST)
    with transaction_held_open(worn_house.url), worn_house.database.connection() as session:
        gone = session.execute(
            "delete from pgtasks.jobs where id in (select id from pgtasks.jobs "
            "where queue = 'q1' and state = 'available' order by scheduled_at limit 2000) "
            "returning priority, scheduled_at::text, id"
        ).fetchall()
        past = jobs.Mark(*max(gone, key=lambda row: row[2]))

        through_the_dead, beyond_them = claim(jobs.LOWEST), claim(past)

    assert {"jobs_ready", "jobs_pkey"} == through_the_dead.indexes == beyond_them.indexes
    assert beyond_them.pages < fresh.pages + 50
    assert through_the_dead.pages > beyond_them.pages + 200


@pytest.mark.parametrize("name", ["insert", "stage", "prune"])
def test_a_transaction_held_open_does_not_change_a_plan(
    worn_house: House, name: str
) -> None:
    with transaction_held_open(worn_house.url):
        for _ in range(3):
            with worn_house.database.connection() as session:
                session.execute(
                    "update pgtasks.jobs set priority = priority where id <= 1000"
                )
                session.execute("update pgtasks.workers set beat = beat + 1")

        plan = worn_house.explain(name)

    assert plan.read_whole == set()
    assert plan.indexes <= INDEXES[name]
    assert plan.pages <= PAGES[name]


def test_the_check_sees_a_scan_that_only_looks_as_if_it_were_bounded(house: House) -> None:
    # A volatile function is no bound for an index: asked directly, the clock makes the
    # stager walk through everything that is due some day.
    statement = jobs.SQL["stage"].replace("(select clock_timestamp())", "clock_timestamp()")
    careless = Query(statement, QUERIES["stage"].params, len)

    plan = house.explain("stage", careless)

    assert statement != jobs.SQL["stage"]
    assert plan.read_whole == {"jobs"}
    assert plan.pages > PAGES["stage"]


@contextmanager
def transaction_held_open(url: str) -> Iterator[None]:
    """While it lasts, no row that dies can be vacuumed."""
    with psycopg.connect(url) as elsewhere:
        elsewhere.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        elsewhere.execute("select 1 from pgtasks.workers")
        yield
