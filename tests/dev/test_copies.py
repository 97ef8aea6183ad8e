"""Copies of PostgreSQL's programs: made once, held by servers, removed after their originals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgtasks.dev import copies
from pgtasks.dev.copies import hold_copy

Take = Callable[[str], Path]

PROGRAM = """
import os, sys
from pathlib import Path
from pgtasks.dev import copies

copies.system_folder = lambda: Path(sys.argv[1])
{before}
source = Path(sys.argv[2], "bin")
where, hold = copies.hold_copy(source, source.parent, [source.parent])
assert os.path.samestat(os.fstat(hold), os.stat(where.parent / ".source"))
print(where, (where / "postgres").read_text(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that copies are kept in."""
    folder = tmp_path / "system"
    folder.mkdir()
    monkeypatch.setattr(copies, "system_folder", lambda: folder)
    return folder


@pytest.fixture
def take(tmp_path: Path, system: Path) -> Iterator[Take]:
    """Takes a copy of the installation of this name, as a server does that ends at once."""

    def take(name: str) -> Path:
        where, hold = hold_copy_of(tmp_path / name)
        os.close(hold)
        return where.parent

    return take


@pytest.fixture
def start(system: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that take a copy and hold it until they are let go."""
    started: list[subprocess.Popen[str]] = []

    def start(installation: Path, before: str = "") -> subprocess.Popen[str]:
        program = PROGRAM.format(before=before)
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program, str(system), str(installation)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def install(folder: Path) -> Path:
    for part in ("bin", "lib", "share"):
        (folder / part).mkdir(parents=True)
        (folder / part / "postgres").write_text(folder.name)
    return folder


def hold_copy_of(installation: Path) -> tuple[Path, int]:
    return hold_copy(installation / "bin", installation, [installation])


def copies_in(system: Path) -> set[Path]:
    return set(system.glob("bin-*"))


def test_it_is_made_once_and_open_to_readers(tmp_path, take, system):
    install(tmp_path / "one").chmod(0o700)
    copy = take("one")
    first = copy.stat()

    assert os.path.samestat(take("one").stat(), first)
    assert copies_in(system) == {copy}
    assert (copy / "bin" / "postgres").read_text() == "one"
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in [copy, *copy.rglob("*")])


def test_it_goes_after_its_installation_when_another_is_made(tmp_path, take, system):
    install(tmp_path / "one")
    gone = take("one")
    shutil.rmtree(tmp_path / "one")
    install(tmp_path / "two")
    kept = take("two")
    install(tmp_path / "three")
    made = take("three")

    assert not gone.exists()
    assert copies_in(system) == {kept, made}


def test_it_goes_after_its_installation_was_upgraded(tmp_path, take, system):
    install(tmp_path / "one")
    old = take("one")
    (tmp_path / "one" / "bin" / "postgres").write_text("newer")
    new = take("one")

    assert copies_in(system) == {new} != {old}
    assert (new / "bin" / "postgres").read_text() == "newer"


def test_it_stays_while_a_process_of_a_server_lives(tmp_path, take, system):
    install(tmp_path / "one")
    where, hold = hold_copy_of(tmp_path / "one")
    with subprocess.Popen(["sleep", "60"], pass_fds=[hold]) as server:
        os.close(hold)
        shutil.rmtree(tmp_path / "one")
        install(tmp_path / "two")
        second = take("two")
        held = copies_in(system)
        server.kill()
    install(tmp_path / "three")
    third = take("three")

    assert held == {where.parent, second}
    assert copies_in(system) == {second, third}


def test_one_that_does_not_say_what_it_was_made_of_stays(tmp_path, take, system):
    (system / "bin-0123456789ab" / "bin").mkdir(parents=True)
    install(tmp_path / "one")
    take("one")

    assert (system / "bin-0123456789ab" / "bin").exists()


def test_one_that_has_no_note_yet_gets_it_from_its_next_user(tmp_path, take, system):
    install(tmp_path / "one")
    copy = take("one")
    (copy / ".source").unlink()

    assert take("one") == copy
    assert (copy / ".source").read_text() == str(tmp_path / "one" / "bin")


@pytest.mark.parametrize(
    "moment",
    ["shutil.copystat", "Path.rename", "os.walk"],
    ids=["while it is copied", "before it is in its place", "before it is open"],
)
def test_a_death_while_it_is_made_leaves_nothing_for_long(
    tmp_path, take, system, start, moment
):
    install(tmp_path / "one")
    dying = start(
        tmp_path / "one",
        f"import shutil\n{moment} = lambda *words, **more: os.kill(os.getpid(), 9)",
    )
    assert dying.wait(30) == -9
    assert [path.suffix != "" for path in copies_in(system)] == [True]

    copy = take("one")
    assert copies_in(system) == {copy}
    assert (copy / "share" / "postgres").read_text() == "one"


def test_a_death_while_one_is_removed_leaves_nothing_for_long(
    tmp_path, take, system, start
):
    install(tmp_path / "one")
    old = take("one")
    moved = tmp_path / "moved"
    (tmp_path / "one").rename(moved)
    install(tmp_path / "two")
    removing = "import shutil\nshutil.rmtree = lambda *words: os.kill(os.getpid(), 9)"
    assert start(tmp_path / "two", removing).wait(30) == -9
    moved.rename(tmp_path / "one")

    assert not old.exists()
    assert take("one") == old
    assert copies_in(system) == {old}
    assert (old / "bin" / "postgres").read_text() == "one"


def test_nobody_removes_what_another_is_making(tmp_path, take, system, start):
    install(tmp_path / "one")
    paused = start(
        tmp_path / "one",
        "Path.rename = lambda self, target: (print('made', flush=True),"
        " sys.stdin.readline(), os.rename(self, target))",
    )
    assert paused.stdout and paused.stdin
    assert paused.stdout.readline() == "made\n"
    install(tmp_path / "two")
    take("two")
    paused.stdin.write("go on\n")
    paused.stdin.flush()

    assert paused.stdout.readline().endswith(" one\n")


def test_of_many_that_come_at_once_each_has_a_whole_copy(tmp_path, take, system, start):
    names = ["one", "two", "three"]
    for name in (*names, "gone"):
        install(tmp_path / name)
    gone = take("gone")
    shutil.rmtree(tmp_path / "gone")
    users = [(name, start(tmp_path / name)) for name in names * 4]

    for name, user in users:
        assert user.stdout
        where, read = user.stdout.readline().split()
        assert read == name
        assert (Path(where).parent / "share" / "postgres").read_text() == name
    assert len(copies_in(system)) == 3
    assert not gone.exists()


def test_a_copy_that_cannot_be_made_leaves_nothing(tmp_path, system):
    installation = install(tmp_path / "one")
    with pytest.raises(OSError, match="absent"):
        hold_copy(
            installation / "bin",
            installation,
            [installation / "bin", installation / "absent"],
        )

    assert copies_in(system) == set()
