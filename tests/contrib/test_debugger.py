"""The debugger that a task waits in until somebody connects."""

from __future__ import annotations

import io
import socket
import sys
import threading

import pytest

from pgtasks.contrib import rdb


@pytest.fixture(autouse=True)
def _streams_as_they_were():
    before = sys.stdin, sys.stdout
    yield
    sys.stdin, sys.stdout = before
    sys.settrace(None)


class Session:
    """Connects when the debugger says where, and sends it commands."""

    def __init__(self, *commands: str) -> None:
        self.out = io.StringIO()
        self.transcript = ""
        self._commands = commands
        self._thread: threading.Thread | None = None

    # What Rdb writes its announcements to.
    def write(self, text: str) -> None:
        self.out.write(text)
        if "Ready to connect" in text:
            port = int(text.partition("telnet ")[2].split()[1])
            self._thread = threading.Thread(target=self._talk, args=(port,))
            self._thread.start()

    def flush(self) -> None:
        pass

    def _talk(self, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall("".join(f"{each}\n" for each in self._commands).encode())
            while data := client.recv(4096):
                self.transcript += data.decode()

    def join(self) -> None:
        assert self._thread is not None
        self._thread.join(20)
        assert not self._thread.is_alive()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TestTheDebugger:
    @pytest.mark.parametrize("last", ["c", "cont", "q", "exit"])
    def test_answers_whoever_connects_and_lets_the_task_go_on(self, last):
        session = Session("p secret", "!secret = 2", last)

        def task():
            secret = 41
            with rdb.Rdb(port=free_port(), out=session) as debugger:
                debugger.set_trace()
                secret += 1
            return secret

        task()
        session.join()

        assert "41" in session.transcript
        assert "(Pdb)" in session.transcript
        assert "Now in session with 127.0.0.1" in session.out.getvalue()
        assert "ended." in session.out.getvalue()
        assert not isinstance(sys.stdout, socket.SocketIO)

    def test_takes_the_next_port_that_is_free(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            session = Session()

            with rdb.Rdb(port=port, out=session) as debugger:
                assert debugger.port > port
            session.join()

    def test_gives_up_when_there_is_none(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()

            with pytest.raises(Exception, match="CELERY_RDB_PORT"):
                rdb.Rdb(port=taken.getsockname()[1], port_search_limit=1)

    def test_is_the_same_until_it_is_left(self, monkeypatch):
        made = []

        class Fake:
            active = True

            def __init__(self):
                made.append(self)

        monkeypatch.setattr(rdb, "Rdb", Fake)
        monkeypatch.setattr(rdb, "_current", [None])

        assert rdb.debugger() is rdb.debugger()
        made[0].active = False
        assert rdb.debugger() is made[1]
