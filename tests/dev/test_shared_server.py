"""A server is shared by processes that come, go and are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from dev.users import Join, is_alive, processes_in
from helpers import eventually
from pgtasks.dev.postgres import EmbeddedPostgresError, shared_server


def run(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def runs_again(url: str) -> bool:
    try:
        return run(url, "select 1") == (1,)
    except psycopg.OperationalError:
        return False


def test_the_first_user_starts_the_server_and_the_second_joins_it(join: Join) -> None:
    first, second = join(), join()

    assert first["pid"] == second["pid"]
    assert first["url"] == second["url"]
    assert run(first["url"], "select current_user, current_database()") == (
        "pgtasks",
        "pgtasks",
    )


def test_the_server_ends_when_the_last_of_its_users_was_killed(join: Join) -> None:
    first, second = join(), join()
    postmaster, supervisor, url = first["pid"], second["supervisor"], first["url"]

    first.kill()
    assert run(url, "select 1") == (1,)
    second.kill()

    eventually(lambda: not is_alive(postmaster) and not is_alive(supervisor))


def test_a_killed_user_with_a_long_statement_does_not_keep_the_server(join: Join) -> None:
    user = join(
        then="import psycopg; c = psycopg.connect(server.url);"
        "print(c.info.backend_pid, flush=True); c.execute('select pg_sleep(600)')"
    )
    postmaster = user["pid"]
    eventually(
        lambda: run(
            user["url"], "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
        )
    )

    user.kill()

    eventually(lambda: not is_alive(postmaster), timeout=20)


def test_data_survive_the_end_of_the_server(join: Join) -> None:
    first = join()
    run(first["url"], "create table kept as select 42 as answer")
    first.kill()
    eventually(lambda: not is_alive(first["supervisor"]))

    second = join()

    assert second["pid"] != first["pid"]
    assert run(second["url"], "select answer from kept") == (42,)


def test_a_killed_supervisor_takes_the_server_along_and_the_next_user_starts_both(
    join: Join,
) -> None:
    first = join()
    run(first["url"], "create table kept as select 42 as answer")
    os.kill(first["supervisor"], signal.SIGKILL)

    second = join()

    assert second["supervisor"] != first["supervisor"]
    assert not is_alive(first["pid"])
    assert run(first["url"], "select answer from kept") == (42,)


def test_a_killed_postmaster_is_started_again_at_the_same_address(join: Join) -> None:
    user = join()
    run(user["url"], "create table kept as select 42 as answer")

    os.kill(user["pid"], signal.SIGKILL)

    eventually(lambda: not is_alive(user["pid"]))
    eventually(lambda: runs_again(user["url"]))
    assert run(user["url"], "select answer from kept") == (42,)


def test_a_busy_backend_of_a_killed_postmaster_does_not_block_the_next_one(
    join: Join,
) -> None:
    user = join(
        then="import psycopg; c = psycopg.connect(server.url);"
        "print(c.info.backend_pid, flush=True);"
        "c.execute('select count(*) from generate_series(1, 1e15::bigint)')"
    )
    postmaster = user["pid"]
    backend = int(user.line())
    eventually(
        lambda: run(
            user["url"],
            f"select 1 from pg_stat_activity where pid = {backend} and state = 'active'",
        )
    )

    os.kill(postmaster, signal.SIGKILL)

    eventually(lambda: not is_alive(backend))
    second = join()
    assert second["pid"] != postmaster


def test_supervisor_postmaster_and_user_killed_at_once_leave_the_next_user_a_server(
    join: Join,
) -> None:
    first = join()
    run(first["url"], "create table kept as select 42 as answer")

    for victim in (first["supervisor"], first["pid"], first.process.pid):
        os.kill(victim, signal.SIGKILL)

    assert run(join()["url"], "select answer from kept") == (42,)


def test_ten_starters_at_once_share_one_postmaster(join: Join) -> None:
    users = [join() for _ in range(10)]

    assert len({user["pid"] for user in users}) == 1
    assert len({user["supervisor"] for user in users}) == 1


def test_a_second_user_joins_within_a_fraction_of_a_start(join: Join, place: Path) -> None:
    join()["pid"]

    began = time.monotonic()
    with shared_server(place / "pg"):
        joined = time.monotonic() - began

    assert joined < 0.5


def test_a_forked_child_keeps_the_server_that_its_parent_started(join: Join) -> None:
    parent = join(
        then="child = os.fork()\n"
        "if child: print(child, flush=True); os._exit(0)\n"
        "os.read(0, 1); os._exit(0)"
    )
    child = int(parent.line())
    assert parent.process.wait(10) == 0

    assert run(parent["url"], "select 1") == (1,)
    os.kill(child, signal.SIGKILL)

    eventually(lambda: not is_alive(parent["supervisor"]))


def test_a_child_that_closes_does_not_end_the_hold_of_its_parent(join: Join) -> None:
    parent = join(
        then="child = os.fork()\n"
        "if not child: server.close(); os._exit(0)\n"
        "os.waitpid(child, 0); print('closed', flush=True)"
    )

    assert parent.line() == "closed"
    assert run(parent["url"], "select 1") == (1,)
    assert is_alive(parent["supervisor"])


def test_closing_ends_the_hold(join: Join) -> None:
    user = join(then="server.close()")

    eventually(lambda: not is_alive(user["supervisor"]))


def test_the_garbage_collector_does_not_end_the_hold(join: Join) -> None:
    user = join(then="import gc; url = server.url; del server; gc.collect(); print(1)")
    other = join()
    user["pid"]

    other.kill()

    assert run(user["url"], "select 1") == (1,)


def test_a_client_without_a_lock_keeps_the_server(join: Join) -> None:
    user = join()
    with psycopg.connect(user["url"], autocommit=True) as psql:
        user.kill()
        second = join()

        assert second["pid"] == user["pid"]
        second.kill()
        assert psql.execute("select 1").fetchone() == (1,)

    eventually(lambda: not is_alive(user["supervisor"]))


def test_a_lingering_server_serves_the_next_user(join: Join) -> None:
    first = join(PGTASKS_LINGER="3600")
    first["pid"]
    first.kill()

    second = join()

    assert second["pid"] == first["pid"]
    os.kill(second["supervisor"], signal.SIGTERM)
    eventually(lambda: not is_alive(second["pid"]))


def test_a_removed_folder_ends_the_server_and_start_begins_anew(place: Path) -> None:
    with shared_server(place / "pg", linger=0) as server:
        supervisor = server.supervisor_pid
        assert supervisor
        place.joinpath("pg").rename(place / "away")

        eventually(lambda: not is_alive(supervisor))
        server.start()

        assert run(server.url, "select 1") == (1,)
        assert (place / "pg" / "data").is_dir()


def test_a_path_too_long_for_a_socket_is_served_from_tmp(place: Path) -> None:
    with shared_server(place / ("deep" * 25), linger=0) as server:
        sockets = psycopg.conninfo.conninfo_to_dict(server.url)["host"]

        assert str(sockets).startswith("/tmp/pgtasks-")
        assert os.stat(str(sockets)).st_mode & 0o777 == 0o700
        assert run(server.url, "select 1") == (1,)

    eventually(lambda: not os.path.exists(str(sockets)))


def test_a_socket_folder_that_somebody_else_has_taken_is_refused(
    place: Path, nobody: int
) -> None:
    folder = place / ("deep" * 25)
    with shared_server(folder, linger=0) as server:
        sockets = str(psycopg.conninfo.conninfo_to_dict(server.url)["host"])
    eventually(lambda: not os.path.exists(sockets))
    os.mkdir(sockets)
    os.chown(sockets, 12345, 12345)

    with pytest.raises(EmbeddedPostgresError, match="somebody else's"):
        shared_server(folder, linger=0)

    os.rmdir(sockets)


@pytest.mark.parametrize(
    "name", ["with space", 'quote"d', "it's", "größe ünits", "a,b%20c&d"]
)
def test_any_name_of_a_folder_will_do(place: Path, name: str) -> None:
    with shared_server(place / name, linger=0) as server:
        assert run(server.url, "select 1") == (1,)


def test_only_the_owner_can_enter_the_folder(join: Join, place: Path) -> None:
    user = join()
    user["pid"]

    assert (place / "pg").stat().st_mode & 0o777 == 0o700
    socket = place / "pg" / ".s.PGSQL.5432"
    assert socket.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_something_else_is_left_alone(place: Path) -> None:
    (place / "report.txt").touch()
    before = place.stat()

    with pytest.raises(EmbeddedPostgresError, match=r"holds 'report\.txt'"):
        shared_server(place)

    assert place.stat().st_mode == before.st_mode
    assert place.stat().st_uid == before.st_uid


def test_data_of_another_version_are_refused_with_both_named(place: Path) -> None:
    data = place / "pg" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    (place / "pg" / "users.lock").touch()

    with pytest.raises(
        EmbeddedPostgresError, match="written by PostgreSQL 9, and "
    ) as error:
        shared_server(place / "pg")

    assert "PGTASKS_PG_BIN" in str(error.value)


def test_damaged_data_are_an_error_with_the_end_of_the_log(join: Join, place: Path) -> None:
    first = join()
    first["pid"]
    first.kill()
    eventually(lambda: not processes_in(place))
    (place / "pg" / "data" / "global" / "pg_control").unlink()

    users = [join() for _ in range(3)]

    for user in users:
        assert "pg_control" in user["error"]
        assert str(place / "pg" / "postgres.log") in user["error"]
        assert "PGTASKS_DATABASE_URL" in user["error"]
    log = (place / "pg" / "postgres.log").read_text()
    assert log.count("could not find the database system") <= 9


def test_a_stale_process_id_that_a_stranger_has_now_is_no_obstacle(
    join: Join, place: Path
) -> None:
    first = join()
    owner = (place / "pg").stat() if first["pid"] else None
    assert owner
    os.kill(first["supervisor"], signal.SIGKILL)
    first.kill()
    eventually(lambda: not processes_in(place))
    options = {"user": owner.st_uid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, **options) as stranger:
        for lock in (place / "pg/data/postmaster.pid", place / "pg/.s.PGSQL.5432.lock"):
            lock.write_text(
                f"{stranger.pid}\n{place}/pg/data\n1\n5432\n{place}/pg\n\n0 0\n"
            )

        assert run(join()["url"], "select 1") == (1,)


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # initdb's helpers come and go


def test_a_cluster_that_was_killed_half_made_is_made_again(join: Join, place: Path) -> None:
    user = join()
    scratch = eventually(lambda: list(place.glob("pg/data.new.*/PG_VERSION")))
    supervisor = next(
        pid for pid in processes_in(place) if name_of(pid).startswith("python")
    )
    os.kill(supervisor, signal.SIGKILL)

    assert run(user["url"], "select 1") == (1,)
    assert scratch
    assert not list(place.glob("pg/data.new.*"))
