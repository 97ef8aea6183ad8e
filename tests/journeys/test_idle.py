"""How much an idle worker asks of the database, counted on its way there."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from pathlib import Path

import pytest

from fleet import Fleet, Proxy
from helpers import eventually

pytestmark = [pytest.mark.journey, pytest.mark.slow]

WINDOW = 30.0


class Counting(Proxy):
    """Counts the statements that pass, by what begins them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.counts: Counter[str] = Counter()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        if answers:
            super()._pump(source, sink, answers)
            return
        reader = Statements(self.counts)
        try:
            while data := source.recv(65536):
                reader.feed(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Statements:
    """Reads what a client sends: Parse names a statement, Bind and Query run one."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.rest = b""
        self.begun = False
        self.texts: dict[bytes, str] = {}

    def feed(self, data: bytes) -> None:
        self.rest += data
        while True:
            head = 1 if self.begun else 0
            if len(self.rest) < head + 4:
                return
            (size,) = struct.unpack_from("!I", self.rest, head)
            if len(self.rest) < head + size:
                return
            kind, body = self.rest[:head], self.rest[head + 4 : head + size]
            self.rest = self.rest[head + size :]
            if not self.begun:
                # The answer to a request for encryption is no; then comes the real one.
                self.begun = body[:4] not in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30")
            elif kind == b"P":
                name, text, _ = body.split(b"\0", 2)
                self.texts[name] = " ".join(text.decode().split())[:60]
            elif kind == b"B":
                name = body.split(b"\0", 2)[1]
                self.counts[self.texts.get(name, "?")] += 1
            elif kind == b"Q":
                self.counts[" ".join(body.decode(errors="replace").split())[:60]] += 1


@pytest.fixture
def counting(fleet: Fleet):
    counting = Counting(fleet.url)
    yield counting
    counting.close()


def test_an_idle_worker_asks_less_than_once_a_second(
    fleet: Fleet, counting: Counting, tmp_path: Path
):
    fleet.lease = 20.0  # the default
    fleet.start(url=counting.url)
    # One job, for there to be something that it could go on looking for.
    fleet.wait(fleet.insert("nap", args="[0]"))
    settled = time.monotonic() + 6

    def quiet() -> bool:
        counting.counts.clear()
        return time.monotonic() > settled

    eventually(quiet, timeout=20)
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + WINDOW, timeout=WINDOW + 5)
    counts = dict(counting.counts)

    per_minute = sum(counts.values()) * 60 / WINDOW
    assert 10 < per_minute <= 60, counts
