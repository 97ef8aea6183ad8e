"""Pid files, daemons, signals, users: what differs from system to system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import eventually
from pgtasks import platforms
from pgtasks.exceptions import SecurityError, SecurityWarning
from pgtasks.platforms import LockFailed, Pidfile, create_pidlock, signals


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "worker.pid")


class TestAPidFile:
    def test_names_the_process_that_holds_it(self, path):
        with Pidfile(path) as pidfile:
            assert pidfile.read_pid() == os.getpid()
            assert pidfile.is_locked()

        assert not pidfile.is_locked()
        assert pidfile.read_pid() is None

    def test_cannot_be_held_twice(self, path):
        with Pidfile(path), pytest.raises(LockFailed, match="exists"):
            Pidfile(path).acquire()

    @pytest.mark.parametrize("content", ["12", "twelve\n", ""])
    def test_that_names_no_process_is_stale(self, path, content, capsys):
        Path(path).write_text(content)

        with pytest.raises(ValueError, match=r"worker\.pid"):
            Pidfile(path).read_pid()
        assert Pidfile(path).remove_if_stale()
        assert "Broken pidfile" in capsys.readouterr().err

    def test_of_a_process_that_is_no_more_is_stale(self, path, capsys):
        done = subprocess.Popen([sys.executable, "-c", ""])
        done.wait()
        Path(path).write_text(f"{done.pid}\n")

        assert Pidfile(path).remove_if_stale()
        assert "Stale pidfile" in capsys.readouterr().err
        assert not Path(path).exists()

    def test_of_a_process_that_runs_ends_the_program(self, path, capsys):
        Path(path).write_text(f"{os.getppid()}\n")

        with pytest.raises(SystemExit) as ended:
            create_pidlock(path)

        assert ended.value.code == platforms.EX_CANTCREAT
        assert f"already exists. Process {os.getppid()} runs already" in (
            capsys.readouterr().err
        )


class TestADaemon:
    def test_goes_on_without_its_parent_and_without_its_files(self, path, tmp_path):
        log = tmp_path / "daemon.log"
        program = (
            "import os\n"
            "from pgtasks.platforms import create_pidlock, detached\n"
            f"with detached(logfile={str(log)!r}, pidfile={path!r}, umask='077'):\n"
            f"    create_pidlock({path!r})\n"
            f"    with open({str(log)!r}, 'a') as log:\n"
            "        print(os.getpid(), os.getsid(0), os.readlink('/proc/self/fd/1')"
            " if os.path.exists('/proc/self/fd/1') else os.devnull, file=log)\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], timeout=60, capture_output=True, check=False
        )

        assert done.returncode == 0, done.stderr
        pid, session, output = eventually(lambda: log.read_text().split())
        assert pid != session  # no leader, which could get a terminal
        assert output == os.devnull
        assert log.stat().st_mode & 0o077 == 0
        eventually(lambda: not Path(path).exists())

    def test_in_the_foreground_only_changes_its_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(os.getcwd())
        there = []

        with platforms.DaemonContext(
            workdir=str(tmp_path), fake=True, after_chdir=lambda: there.append(os.getcwd())
        ):
            assert Path.cwd() == tmp_path

        assert there == [str(tmp_path)]

    @pytest.mark.parametrize(("given", "umask"), [("022", 0o22), ("18", 0o22), (18, 18)])
    def test_takes_its_umask_as_shells_write_it(self, given, umask):
        assert platforms.DaemonContext(umask=given).umask == umask


class TestDescriptors:
    def test_of_a_file_are_found_by_its_path(self, tmp_path):
        with (tmp_path / "file").open("w") as file:
            assert platforms.fd_by_path([file.name, "/no/such/file"]) == [file.fileno()]

    def test_are_closed_but_for_those_to_keep(self):
        program = (
            "import os\n"
            "from pgtasks.platforms import close_open_fds\n"
            "kept, closed = os.open('/dev/null', 0), os.open('/dev/null', 0)\n"
            "close_open_fds([0, 1, 2, kept])\n"
            "os.fstat(kept)\n"
            "try: os.fstat(closed)\n"
            "except OSError: print('closed')\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], timeout=60, capture_output=True, check=False
        )

        assert (done.returncode, done.stdout) == (0, b"closed\n")


class TestSignals:
    def test_are_known_by_name_with_and_without_its_beginning(self):
        assert signals.signum("TERM") == signals.signum("SIGTERM") == signal.SIGTERM
        assert platforms.signal_name(signal.SIGTERM) == "TERM"
        with pytest.raises(TypeError, match="uppercase"):
            signals.signum("term")

    def test_that_the_system_lacks_are_passed_over(self):
        assert not signals.supported("IMAGINARY")

        signals["IMAGINARY"] = lambda number, frame: None

    def test_get_handlers_and_their_own_back(self):
        before = signals["USR2"]
        try:
            signals.ignore("USR2")
            assert signals["USR2"] == signals.ignored
            signals.reset("USR2")
            assert signals["USR2"] == signals.default
        finally:
            signals["USR2"] = before


class TestUsers:
    def test_are_known_by_name_and_number(self):
        assert platforms.parse_uid("root") == platforms.parse_gid("0") == 0
        with pytest.raises(KeyError, match="User does not exist: nobody at all"):
            platforms.parse_uid("nobody at all")

    def test_that_are_root_may_not_run_what_unpickles(self, monkeypatch):
        monkeypatch.setattr(os, "getuid", lambda: 0)
        monkeypatch.delenv("C_FORCE_ROOT", raising=False)

        with pytest.raises(SecurityError, match=r"pickle.*--uid"):
            platforms.check_privileges(["json", "pickle"])
        with pytest.warns(SecurityWarning, match="superuser"):
            platforms.check_privileges(["json"])
        monkeypatch.setenv("C_FORCE_ROOT", "1")
        with pytest.warns(SecurityWarning, match="uid=0"):
            platforms.check_privileges(["pickle"])

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root"
    )
    def test_are_changed_for_good(self):
        program = (
            "import os\n"
            "from pgtasks.platforms import maybe_drop_privileges\n"
            "maybe_drop_privileges(uid='nobody')\n"
            "print(os.getuid() != 0, os.getgid() != 0, 0 not in os.getgroups())\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], timeout=60, capture_output=True, check=False
        )

        assert done.stdout.split() == [b"True", b"True", b"True"], done.stderr


class TestOptions:
    def test_are_found_before_anything_has_parsed_them(self):
        argv = ["worker", "-P", "gevent", "--pool=threads"]

        assert platforms._find_option_with_arg(argv, ["-P"], ["--pool"]) == "gevent"
        assert platforms._find_option_with_arg(argv[3:], ["-P"], ["--pool"]) == "threads"
        with pytest.raises(KeyError, match="-P"):
            platforms._find_option_with_arg(["worker"], ["-P"], ["--pool"])
