import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from helpers import eventually
from pgtasks.storage import schema
from pgtasks.storage.database import Database
from pgtasks.storage.errors import (
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
    StorageBusy,
    StorageError,
    StorageMisconfigured,
)
from pgtasks.storage.migrations import statements

ROOT = Path(__file__).resolve().parents[2]


class Folder:
    """A folder of migrations in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("0001_first.sql", "create table pgtasks.first (a integer);")
        self.write("0001_first.down.sql", "drop table pgtasks.first;")
        self.write("0002_second.sql", "create table pgtasks.second (a integer);")
        self.write("0002_second.down.sql", "drop table pgtasks.second;")

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def tables(url: str, schema: str = "pgtasks") -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select tablename from pg_tables where schemaname = %s", [schema]
        ).fetchall()
    return {name for (name,) in rows}


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


# ── files ──────────────────────────────────────────────────────────────────────────────


def test_migrations_are_found_in_order_with_their_headers(folder: Folder) -> None:
    folder.write(
        "0010_later.sql", "--! no-transaction\n--! breaking\n--! needs 16\nselect 1;"
    )

    first, second, later = schema.find(folder.path)

    assert [str(each) for each in (first, second, later)] == [
        "0001_first",
        "0002_second",
        "0010_later",
    ]
    assert first.up.transactional
    assert not later.up.transactional
    assert (first.breaking, later.breaking) == (False, True)
    assert (first.needs, later.needs) == (0, 16)
    assert first.down is not None
    assert later.down is None


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("0002_again.sql", "select 1", "same number"),
        ("3_short.sql", "select 1", "no name for a migration"),
        ("0003_typo.sql", "--! braking\nselect 1", "'--! braking' is unknown"),
        ("0003_lost.down.sql", "select 1", "leads back from nothing"),
    ],
)
def test_a_file_that_makes_no_sense_is_explained(
    folder: Folder, name: str, text: str, complaint: str
) -> None:
    folder.write(name, text)

    with pytest.raises(StorageMisconfigured, match=complaint):
        schema.find(folder.path)


def test_other_line_ends_are_the_same_migration(folder: Folder, tmp_path: Path) -> None:
    here = schema.find(folder.path)[0]
    text = (tmp_path / "0001_first.sql").read_text() + "\n"
    (tmp_path / "0001_first.sql").write_bytes(text.encode())
    unix = schema.find(folder.path)[0]
    (tmp_path / "0001_first.sql").write_bytes(text.replace("\n", "\r\n").encode())
    windows = schema.find(folder.path)[0]

    assert unix.checksum == windows.checksum != here.checksum


def test_a_text_is_cut_where_statements_end() -> None:
    text = """
    -- a; comment
    select ';', ";", 'it''s; fine';
    /* another; */ select $tag$ ; $$ ; $tag$;
    create function f() returns text language sql as $$ select 'a'; $$;
    -- the end;
    """

    cut = statements(text)

    assert len(cut) == 3
    assert cut[1].endswith("$tag$ ; $$ ; $tag$")


def test_our_own_migrations_are_complete() -> None:
    found = schema.find()

    assert [each.version for each in found] == list(range(1, len(found) + 1))
    assert not [str(each) for each in found if each.down is None]


# ── applying ───────────────────────────────────────────────────────────────────────────


def test_applying_twice_is_applying_once(fresh_database: str, folder: Folder) -> None:
    before = schema.version(fresh_database)
    planned = schema.plan(fresh_database, folder=folder.path)

    first = schema.apply(fresh_database, folder=folder.path)
    second = schema.apply(fresh_database, folder=folder.path)

    assert before == 0
    assert planned == first == schema.find(folder.path)
    assert second == []
    assert tables(fresh_database) == {"first", "second", "migrations"}
    assert schema.version(fresh_database) == 2
    assert schema.verify(fresh_database, folder=folder.path) == []


def test_the_way_can_be_gone_in_parts(fresh_database: str, folder: Folder) -> None:
    schema.apply(fresh_database, to=1, folder=folder.path)
    assert tables(fresh_database) == {"first", "migrations"}

    plan = schema.plan(fresh_database, folder=folder.path)
    schema.apply(fresh_database, folder=folder.path)

    assert [each.version for each in plan] == [2]
    assert schema.version(fresh_database) == 2


@pytest.mark.parametrize("name", ["elsewhere", "_tasks2"])
def test_any_schema_will_do(fresh_database: str, folder: Folder, name: str) -> None:
    schema.apply(fresh_database, schema=name, folder=folder.path)

    assert tables(fresh_database, name) == {"first", "second", "migrations"}
    assert tables(fresh_database) == set()
    assert schema.version(fresh_database) == 0
    assert schema.down(fresh_database, 0, schema=name, folder=folder.path)
    assert tables(fresh_database, name) == set()


def test_many_processes_may_apply_at_once(fresh_database: str, folder: Folder) -> None:
    folder.write("0003_third.sql", "select pg_sleep(0.2); create table pgtasks.third ();")
    program = (
        "import sys; from pathlib import Path; from pgtasks.storage import schema;"
        "print(len(schema.apply(sys.argv[1], folder=Path(sys.argv[2]))))"
    )

    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, fresh_database, str(folder.path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]
    applied = sorted(process.communicate()[0].strip() for process in started)

    assert applied == ["0", "0", "0", "3"]


def test_many_threads_may_apply_at_once_without_transactions_too(
    fresh_database: str, folder: Folder
) -> None:
    # `create index concurrently` waits for every older snapshot, thus for ever for
    # somebody who waits for us in a statement.
    folder.write(
        "0003_index.sql",
        "--! no-transaction\n"
        "drop index concurrently if exists pgtasks.first_a;\n"
        "create index concurrently first_a on pgtasks.first (a);\n",
    )

    def work(_: int) -> int:
        return len(schema.apply(fresh_database, folder=folder.path))

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(work, range(4))) == [0, 0, 0, 3]


def test_a_migration_that_fails_leaves_nothing_and_is_named(
    fresh_database: str, folder: Folder
) -> None:
    folder.write("0003_bad.sql", "create table pgtasks.third (); select 1 / 0;")

    with pytest.raises(
        StorageError, match="0003_bad failed, nothing of it was done"
    ) as bad:
        schema.apply(fresh_database, folder=folder.path)

    assert "division by zero" in str(bad.value)
    assert schema.version(fresh_database) == 2
    assert "third" not in tables(fresh_database)


def test_a_migration_without_transaction_starts_over(
    fresh_database: str, folder: Folder
) -> None:
    text = "--! no-transaction\ncreate table if not exists pgtasks.third (); {}"
    folder.write("0003_half.sql", text.format("select 1 / 0;"))
    with pytest.raises(StorageError, match="0003_half failed, the statements before"):
        schema.apply(fresh_database, folder=folder.path)
    assert "third" in tables(fresh_database)
    assert schema.version(fresh_database) == 2

    folder.write("0003_half.sql", text.format(""))

    assert [each.version for each in schema.apply(fresh_database, folder=folder.path)] == [
        3
    ]


def test_a_lock_that_is_held_is_tried_for_again_and_holds_up_nobody(
    fresh_database: str, folder: Folder
) -> None:
    schema.apply(fresh_database, folder=folder.path)
    folder.write("0003_wider.sql", "alter table pgtasks.first add column b integer;")
    waiting = "select count(*) from pg_locks where not granted"

    with psycopg.connect(fresh_database) as holder, ThreadPoolExecutor(1) as threads:
        holder.execute("select * from pgtasks.first")
        work = threads.submit(schema.apply, fresh_database, folder=folder.path)
        with psycopg.connect(fresh_database, autocommit=True) as admin:
            eventually(lambda: admin.execute(waiting).fetchone() == (1,))
            # Gives way after 2 s, although the holder is still there.
            eventually(lambda: admin.execute(waiting).fetchone() == (0,))
            assert not work.done()
        holder.rollback()

        assert [each.version for each in work.result()] == [3]


def test_patience_ends(fresh_database: str, folder: Folder) -> None:
    schema.apply(fresh_database, folder=folder.path)
    folder.write("0003_wider.sql", "alter table pgtasks.first add column b integer;")

    with psycopg.connect(fresh_database) as holder:
        holder.execute("select * from pgtasks.first")
        with pytest.raises(StorageBusy, match="0003_wider failed"):
            schema.apply(fresh_database, folder=folder.path, patience=0)


def test_another_migrating_process_is_waited_for_only_so_long(
    fresh_database: str, folder: Folder
) -> None:
    lock = "select pg_advisory_xact_lock(hashtext('pgtasks.migrations')::bigint)"
    with psycopg.connect(fresh_database) as other:
        other.execute(lock)

        with pytest.raises(StorageBusy, match="Another process"):
            schema.apply(fresh_database, folder=folder.path, patience=0)
        # Another schema is another matter.
        assert schema.apply(fresh_database, schema="elsewhere", folder=folder.path)


def test_a_server_that_is_too_old_is_named(fresh_database: str, folder: Folder) -> None:
    folder.write("0003_future.sql", "--! needs 99\nselect 1;")

    with pytest.raises(StorageMisconfigured, match="needs PostgreSQL 99"):
        schema.apply(fresh_database, folder=folder.path)

    assert schema.version(fresh_database) == 2


def test_a_role_without_rights_is_told_what_to_ask_for(
    fresh_database: str, folder: Folder
) -> None:
    role = f"poor_{os.getpid()}_{threading.get_ident()}"
    run(fresh_database, f"create role {role}")
    url = make_conninfo(fresh_database, options=f"-c role={role}")
    try:
        with pytest.raises(StorageMisconfigured, match=f"authorization {role}"):
            schema.apply(url, folder=folder.path)

        # A schema that somebody made for it is enough.
        run(fresh_database, f"create schema made authorization {role}")
        schema.apply(url, schema="made", folder=folder.path)
        assert tables(fresh_database, "made") == {"first", "second", "migrations"}
    finally:
        run(fresh_database, f"drop owned by {role} cascade", f"drop role {role}")


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_it_works_through_a_pooler(
    pgbouncer: Callable[..., str], database_url: str, folder: Folder, mode: str
) -> None:
    url = pgbouncer(mode)
    folder.write(
        "0003_index.sql",
        "--! no-transaction\ncreate index concurrently first_a on pooled.first (a);\n"
        "create index concurrently first_b on pooled.first (a);\n",
    )
    try:
        with ThreadPoolExecutor(2) as threads:
            work = [
                threads.submit(schema.apply, url, schema="pooled", folder=folder.path)
                for _ in range(2)
            ]
            assert sorted(len(each.result()) for each in work) == [0, 3]
        schema.check(Database(url, schema="pooled"), folder=folder.path)
    finally:
        run(database_url, "drop schema if exists pooled cascade")


# ── going back ─────────────────────────────────────────────────────────────────────────


def test_going_back_undoes_the_newest_first(fresh_database: str, folder: Folder) -> None:
    schema.apply(fresh_database, folder=folder.path)

    reverted = schema.down(fresh_database, 1, folder=folder.path)

    assert [each.version for each in reverted] == [2]
    assert tables(fresh_database) == {"first", "migrations"}
    assert schema.version(fresh_database) == 1


def test_going_back_to_nothing_leaves_nothing(fresh_database: str, folder: Folder) -> None:
    schema.apply(fresh_database, folder=folder.path)

    schema.down(fresh_database, 0, folder=folder.path)

    with psycopg.connect(fresh_database) as connection:
        row = connection.execute("select to_regnamespace('pgtasks')").fetchone()
    assert row == (None,)
    assert schema.down(fresh_database, 0, folder=folder.path) == []
    assert schema.apply(fresh_database, folder=folder.path)


def test_what_others_keep_in_the_schema_is_theirs(
    fresh_database: str, folder: Folder
) -> None:
    schema.apply(fresh_database, folder=folder.path)
    run(fresh_database, "create table pgtasks.theirs (a integer)")

    schema.down(fresh_database, 0, folder=folder.path)

    assert tables(fresh_database) == {"theirs"}


def test_without_a_way_back_nothing_is_begun(fresh_database: str, folder: Folder) -> None:
    folder.write("0003_oneway.sql", "select 1;")
    schema.apply(fresh_database, folder=folder.path)
    (folder.path / "0001_first.down.sql").unlink()

    with pytest.raises(StorageMisconfigured, match="no way back from 0003_oneway"):
        schema.down(fresh_database, 2, folder=folder.path)
    with pytest.raises(StorageMisconfigured):
        schema.down(fresh_database, 0, folder=folder.path)

    assert schema.version(fresh_database) == 3


def test_our_own_migrations_lead_there_and_back(fresh_database: str) -> None:
    newest = schema.find()[-1].version

    schema.apply(fresh_database)
    for version in reversed(range(newest)):
        schema.down(fresh_database, version)

    assert tables(fresh_database) == set()
    schema.apply(fresh_database, schema="elsewhere")
    assert schema.version(fresh_database, schema="elsewhere") == newest
    assert tables(fresh_database) == set()


# ── comparing ──────────────────────────────────────────────────────────────────────────


def test_verify_tells_every_difference(fresh_database: str, folder: Folder) -> None:
    folder.write("0003_third.sql", "select 1;")
    schema.apply(fresh_database, folder=folder.path)
    (folder.path / "0003_third.sql").unlink()
    folder.write("0002_second.sql", "create table pgtasks.second (b integer);")
    folder.write("0004_fourth.sql", "select 1;")

    problems = schema.verify(fresh_database, folder=folder.path)

    assert [(each.kind, each.version) for each in problems] == [
        ("altered", 2),
        ("missing", 4),
        ("unknown", 3),
    ]
    assert "pgtasks schema apply" in problems[1].message


def test_a_worker_is_told_to_create_the_schema(fresh_database: str) -> None:
    with pytest.raises(SchemaMissing) as caught:
        schema.check(Database(fresh_database))
    message = str(caught.value)

    assert "Run: pgtasks schema apply --database-url " in message


def test_the_command_in_the_message_works(fresh_database: str) -> None:
    database = Database(fresh_database, schema="elsewhere")
    with pytest.raises(SchemaMissing) as caught:
        schema.check(database)
    command = str(caught.value).split("Run: ")[1]

    words = shlex.split(command)
    assert words[:3] == ["pgtasks", "schema", "apply"]
    assert words[-2:] == ["--schema", "elsewhere"]
    schema.apply(words[words.index("--database-url") + 1], schema=words[-1])

    schema.check(database)


def test_a_password_is_not_in_the_command() -> None:
    problem = schema._command(Database("postgresql://u:sEcret77@h/d"))

    assert "sEcret77" not in problem
    assert "PGPASSWORD" in problem


def test_a_worker_is_told_what_is_lacking(fresh_database: str, folder: Folder) -> None:
    schema.apply(fresh_database, to=1, folder=folder.path)

    with pytest.raises(SchemaOutdated, match=r"lacks 0002_second\. Run: pgtasks schema"):
        schema.check(Database(fresh_database), folder=folder.path)


def test_an_old_worker_works_with_a_newer_schema_unless_that_breaks_it(
    fresh_database: str, folder: Folder
) -> None:
    folder.write("0003_third.sql", "select 1;")
    schema.apply(fresh_database, folder=folder.path)
    (folder.path / "0003_third.sql").unlink()
    database = Database(fresh_database)
    schema.check(database, folder=folder.path)
    folder.write("0004_fourth.sql", "--! breaking\nselect 1;")
    schema.apply(fresh_database, folder=folder.path)
    (folder.path / "0004_fourth.sql").unlink()

    with pytest.raises(SchemaTooNew, match=r"0004_fourth.*Upgrade it"):
        schema.check(database, folder=folder.path)


# ── scripts ────────────────────────────────────────────────────────────────────────────


def psql(url: str, script: str) -> None:
    """Runs a script statement by statement, as psql does."""
    run(url, *statements(script))


@pytest.mark.parametrize("name", ["pgtasks", "elsewhere"])
@pytest.mark.parametrize("transactions", [True, False])
def test_a_script_does_the_same_as_apply(
    fresh_database: str, folder: Folder, name: str, transactions: bool
) -> None:
    folder.write("0003_third.sql", "--! no-transaction\n--! breaking\nselect 1")

    text = schema.script(schema=name, folder=folder.path, transactions=transactions)
    psql(fresh_database, text)

    assert ("begin;" in text) == transactions
    assert schema.verify(fresh_database, schema=name, folder=folder.path) == []
    assert schema.apply(fresh_database, schema=name, folder=folder.path) == []
    with psycopg.connect(fresh_database) as connection:
        rows = connection.execute(
            f"select version, breaking from {name}.migrations order by version".encode()
        ).fetchall()
    assert rows == [(1, False), (2, False), (3, True)]


def test_a_script_leads_from_any_version_to_any_other(
    fresh_database: str, folder: Folder
) -> None:
    psql(fresh_database, schema.script(0, 1, folder=folder.path))
    assert schema.version(fresh_database) == 1
    psql(fresh_database, schema.script(1, 2, folder=folder.path))
    assert schema.version(fresh_database) == 2
    psql(fresh_database, schema.script(2, 1, folder=folder.path))

    assert schema.version(fresh_database) == 1
    assert tables(fresh_database) == {"first", "migrations"}
    assert schema.script(1, 1, folder=folder.path).strip() == ""


def test_the_script_of_our_own_migrations_works(fresh_database: str) -> None:
    psql(fresh_database, schema.script())

    assert schema.verify(fresh_database) == []
    schema.check(Database(fresh_database))


def test_a_script_is_for_plain_schema_names_only() -> None:
    with pytest.raises(StorageMisconfigured):
        schema.script(schema="a; drop table b")


def test_the_wheel_has_the_migrations_inside(tmp_path: Path) -> None:
    # As installed: no checkout beside the package.
    package: Any = tmp_path / "pgtasks"
    (package / "migrations").mkdir(parents=True)
    for path in (ROOT / "migrations").glob("*.sql"):
        (package / "migrations" / path.name).write_bytes(path.read_bytes())
    for name in ("exceptions.py", "storage"):
        (package / name).symlink_to(ROOT / "pgtasks" / name)
    (package / "__init__.py").write_text("")
    program = (
        "import pgtasks.storage.migrations as m; m.__file__ = '/nowhere/a/b/c.py';"
        "print(*m.find())"
    )

    out = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    ).stdout

    assert out.split() == [str(each) for each in schema.find()]
