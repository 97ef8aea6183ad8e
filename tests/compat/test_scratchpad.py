"""The stand-in for the Redis in which Celery's integration tests take notes."""

from __future__ import annotations

import socket
import threading

import pytest

from compat.conformance.scratch import Scratchpad


@pytest.fixture
def pad():
    with Scratchpad() as scratchpad:
        yield scratchpad


@pytest.fixture
def client(pad):
    with Client(pad.port) as connected:
        yield connected


class Client:
    """Speaks the protocol, as the tests' own client does."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._socket.close()

    def __call__(self, *words):
        parts = [str(word).encode() for word in words]
        told = b"*%d\r\n" % len(parts)
        told += b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(told)
        return self._answer()

    def _answer(self):
        line = self._file.readline().strip()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        if kind == b"%":
            return {self._answer(): self._answer() for _ in range(int(rest))}
        if kind == b"_":
            return None
        return int(rest) if kind == b":" else rest.decode()


def test_keeps_lists_and_counters(client):
    assert client("RPUSH", "list", "a", "b", "c\r\nd") == 3
    assert client("LRANGE", "list", 0, -1) == [b"a", b"b", b"c\r\nd"]
    assert client("LRANGE", "list", 1, 1) == [b"b"]
    assert client("LLEN", "list") == 3
    assert client("LLEN", "nothing") == 0
    assert [client("INCR", "count"), client("INCRBY", "count", 5)] == [1, 6]
    assert client("GET", "count") == b"6"
    assert client("GET", "nothing") is None
    assert client("EXISTS", "list", "count", "nothing") == 2
    assert client("DEL", "list", "nothing") == 1
    assert client("EXISTS", "list") == 0


def test_whoever_waits_for_an_item_has_it_as_soon_as_it_comes(pad, client):
    got = []

    def wait():
        with Client(pad.port) as other:
            got.append(other("BLPOP", "list", 0))

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    assert client("RPUSH", "list", "here") == 1
    waiter.join(30)

    assert got == [[b"list", b"here"]]
    assert client("BLPOP", "list", "0.05") is None


def test_what_has_expired_is_gone(client):
    client("SET", "key", "value")
    assert client("EXPIRE", "key", 60) == 1
    assert client("GET", "key") == b"value"
    assert client("EXPIRE", "key", 0) == 1
    assert client("GET", "key") is None
    assert client("EXPIRE", "key", 60) == 0


def test_what_it_does_not_know_it_says(client):
    assert client("PUBSUB", "CHANNELS") == "ERR unknown command 'pubsub'"
    client("SET", "text", "x")
    assert "WRONGTYPE" in client("RPUSH", "text", "y")
    assert "wrong arguments" in client("LRANGE", "text")
    assert client("PING") == "PONG"


def test_speaks_the_third_version_of_the_protocol_to_those_who_ask(client):
    assert client("HELLO", 3)[b"proto"] == 3
    assert client("GET", "nothing") is None
