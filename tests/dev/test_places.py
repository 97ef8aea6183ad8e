"""Which folder a project's server is in, without any configuration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dev.users import Join
from helpers import eventually
from pgtasks.dev.places import default_folder


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    for name in ("PGTASKS_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    (place / "home").mkdir()
    monkeypatch.setenv("HOME", str(place / "home"))


@pytest.fixture
def below(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, two folders below ``place``."""
    folder = place / "project" / "package"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "mark", ["pyproject.toml", "manage.py", "setup.py", ".git", ".pgtasks"]
)
def test_the_nearest_folder_that_looks_like_a_project_holds_the_server(
    below: Path, mark: str
) -> None:
    (below.parent / mark).mkdir()
    (below.parent.parent / "pyproject.toml").touch()

    assert default_folder() == below.parent / ".pgtasks" / "postgres"


def test_a_plain_folder_holds_its_own_server(below: Path) -> None:
    assert default_folder() == below / ".pgtasks" / "postgres"


def test_git_does_not_see_the_folder(below: Path) -> None:
    default_folder()

    assert (below / ".pgtasks" / ".gitignore").read_text() == "*\n"


def test_a_gitignore_that_somebody_edited_stays(below: Path) -> None:
    (below / ".pgtasks").mkdir()
    (below / ".pgtasks" / ".gitignore").write_text("postgres\n")

    default_folder()

    assert (below / ".pgtasks" / ".gitignore").read_text() == "postgres\n"


def test_a_home_folder_under_git_is_not_the_project_of_everything_below(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (below.parent / ".git").mkdir()
    monkeypatch.setenv("HOME", str(below.parent))

    assert default_folder() == below / ".pgtasks" / "postgres"


def test_a_mark_in_everybodys_folder_does_not_count(below: Path) -> None:
    (below.parent / "setup.py").touch()
    below.parent.chmod(0o1777)

    assert default_folder() == below / ".pgtasks" / "postgres"


def test_the_environment_wins(
    below: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTASKS_DATA_DIR", str(place / "elsewhere"))

    assert default_folder() == place / "elsewhere"


def test_the_root_folder_is_nobodys_project(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "data"))

    folder = default_folder()

    assert folder.parent.parent == place / "data" / "pgtasks"
    assert not Path("/.pgtasks").exists()


def test_a_working_directory_that_was_removed_is_no_obstacle(
    below: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "data"))
    shutil.rmtree(below)

    assert default_folder().is_relative_to(place / "data")


def test_a_folder_that_cannot_be_written_sends_its_server_to_the_users_data(
    join: Join, below: Path, place: Path, nobody: int
) -> None:
    home = place / "home"
    os.chown(home, nobody, nobody)

    users = [
        join("shared_server()", uid=nobody, cwd=below, HOME=str(home)) for _ in range(2)
    ]

    folder = Path(users[0]["folder"])
    assert folder.is_relative_to(home / ".local" / "share" / "pgtasks")
    assert folder.parent.name.startswith("package-")
    assert users[0]["pid"] == users[1]["pid"]


def test_root_does_not_use_what_somebody_left_in_everybodys_folder(
    below: Path, place: Path, nobody: int
) -> None:
    (below / ".pgtasks").mkdir()
    os.chown(below / ".pgtasks", nobody, nobody)

    assert default_folder().is_relative_to(place / "home")


def test_two_terminals_in_one_project_find_the_same_server(join: Join, below: Path) -> None:
    (below.parent / "manage.py").touch()

    here = join("shared_server()", cwd=below)
    there = join("shared_server()", cwd=below.parent)

    assert here["pid"] == there["pid"]
    assert Path(here["folder"]) == below.parent / ".pgtasks" / "postgres"
    here.kill()
    there.kill()
    eventually(lambda: not os.path.exists(f"/proc/{here['supervisor']}"))
