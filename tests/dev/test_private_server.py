"""A private server belongs to one process and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dev.users import Join, is_alive
from helpers import eventually
from pgtasks.dev.postgres import EmbeddedPostgresError, Server, private_server
from pgtasks.dev.server import How


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server() as server:
        yield server


def run(server: Server, statement: str) -> object:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def test_it_serves_a_database_over_a_socket_only(server: Server) -> None:
    assert run(server, "select current_database(), inet_server_addr()") == ("pgtasks", None)
    assert run(server, "show listen_addresses") == ("",)
    assert run(server, "show server_version") == (server.version,) or server.version in str(
        run(server, "show server_version")
    )


def test_the_libpq_variables_of_the_environment_do_not_mislead_its_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGUSER": "x",
        "PGHOST": "x",
        "PGDATABASE": "x",
    }.items():
        monkeypatch.setenv(name, value)

    assert run(server, "select 1") == (1,)


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_a_restart_of_any_kind_keeps_what_was_committed(server: Server, mode: How) -> None:
    former = server.pid
    run(server, f"create table kept_{mode} as select 42 as answer")

    server.restart(mode)

    assert server.pid != former
    assert run(server, f"select answer from kept_{mode}") == (42,)


def test_a_stopped_server_stays_down_until_it_is_started(server: Server) -> None:
    server.stop("immediate")

    assert server.pid is None
    with pytest.raises(psycopg.OperationalError):
        run(server, "select 1")

    server.start()

    assert run(server, "select 1") == (1,)


def test_starting_a_running_server_changes_nothing(server: Server) -> None:
    former = server.pid

    server.start()

    assert server.pid == former


def test_an_unknown_mode_is_named(server: Server) -> None:
    with pytest.raises(ValueError, match="'gently'"):
        server.stop("gently")  # type: ignore[arg-type]


def test_settings_reach_postgresql() -> None:
    with private_server(settings={"max_connections": "23", "fsync": "on"}) as server:
        assert run(server, "show max_connections") == ("23",)
        assert run(server, "show fsync") == ("on",)


def test_only_a_durable_server_syncs(server: Server) -> None:
    assert run(server, "show fsync") == ("off",)
    with private_server(durable=True) as durable:
        assert run(durable, "show fsync") == ("on",)


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    with pytest.raises(EmbeddedPostgresError) as error:
        private_server(settings={"shared_buffers": "nonsense"})

    assert 'invalid value for parameter "shared_buffers": "nonsense"' in str(error.value)
    folder = re.search(r"/tmp/pgtasks-private-\w+", str(error.value))
    assert folder
    assert not Path(folder[0]).exists()


def test_closing_ends_it_and_removes_its_folder() -> None:
    server = private_server()
    supervisor = server.supervisor_pid
    assert supervisor

    server.close()
    server.close()

    assert not server.folder.exists()
    eventually(lambda: not is_alive(supervisor))


def test_a_killed_owner_leaves_neither_server_nor_folder(join: Join) -> None:
    owner = join("private_server()")
    folder = Path(owner["folder"])
    assert folder.exists()

    owner.kill()

    eventually(lambda: not folder.exists())
    eventually(lambda: not is_alive(owner["pid"]) and not is_alive(owner["supervisor"]))


def test_an_owner_killed_while_it_starts_leaves_nothing(join: Join) -> None:
    before = set(Path("/tmp").glob("pgtasks-private-*"))
    owner = join("private_server()")
    begun = eventually(
        lambda: [
            folder
            for folder in set(Path("/tmp").glob("pgtasks-private-*")) - before
            if list(folder.glob("data.new.*"))
        ],
        message="initdb began",
    )

    owner.kill()

    eventually(lambda: not any(folder.exists() for folder in begun))


def test_closing_after_the_supervisor_was_killed_removes_the_folder() -> None:
    server = private_server()
    postmaster, supervisor = server.pid, server.supervisor_pid
    assert postmaster
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)

    server.close()

    assert not server.folder.exists()
    assert not is_alive(postmaster)


def test_what_killed_owners_and_supervisors_left_goes_with_the_next_server(
    join: Join,
) -> None:
    owner = join("private_server()")
    folder = Path(owner["folder"])
    os.kill(owner["supervisor"], signal.SIGKILL)
    owner.kill()
    eventually(lambda: not is_alive(owner["pid"]))
    assert folder.exists()

    with private_server():
        assert not folder.exists()


def test_a_running_private_server_is_not_swept_by_another(server: Server) -> None:
    with private_server():
        assert run(server, "select 1") == (1,)


def test_a_child_that_closes_does_not_end_the_server_of_its_owner(join: Join) -> None:
    owner = join(
        "private_server()",
        then="child = os.fork()\n"
        "if not child: server.close(); os._exit(0)\n"
        "os.waitpid(child, 0); print('closed', flush=True)",
    )

    assert owner.line() == "closed"
    with psycopg.connect(owner["url"]) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
