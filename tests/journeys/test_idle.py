"""How much an idle worker asks of the database, counted on its way there."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
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


def test_a_notification_that_was_lost_is_made_up_for_within_seconds(fleet: Fleet):
    fleet.lease = 20.0
    fleet.start()
    # Past the time in which a worker that fell asleep polls twenty times a second.
    settled = time.monotonic() + 5
    eventually(lambda: time.monotonic() > settled, timeout=10)
    with psycopg.connect(fleet.url) as notifying:
        # As if others were just about to notify, so that nobody else does.
        for word in ("journey", ""):
            notifying.execute(
                "select pg_advisory_xact_lock(hashtext('pgtasks.jobs'), hashtext(%s))",
                [word],
            )
        at_once = fleet.insert("nap", args="[0]")
        in_a_moment = fleet.insert("nap", args="[0]", delay=0.5)
        fleet.wait([*at_once, *in_a_moment], timeout=15)
        late = fleet.query(
            "select extract(epoch from attempted_at - scheduled_at)::float8 "
            "from pgtasks.finished_jobs"
        )

    assert all(seconds < 8 for (seconds,) in late), late
    assert any(seconds > 0.1 for (seconds,) in late), "they were told of after all"


def test_jobs_that_come_together_begin_together(fleet: Fleet):
    fleet.lease = 20.0
    fleet.start("-c", "4")
    settled = time.monotonic() + 5
    eventually(lambda: time.monotonic() > settled, timeout=10)
    with ThreadPoolExecutor(8) as threads:
        sent = threads.map(lambda _: fleet.insert("nap", args="[0]"), range(8))
        ids = [id for each in sent for id in each]
    fleet.wait(ids, timeout=15)

    # One transaction notifies for all that do so at the same time.
    late = fleet.query(
        "select extract(epoch from max(attempted_at - scheduled_at))::float8 "
        "from pgtasks.finished_jobs"
    )
    assert late[0][0] < 3.0
