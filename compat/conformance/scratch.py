"""Lists and counters that tests share with their workers: a few of Redis' commands.

Celery's integration tests note in a Redis what ran, in whatever process it did. They do
not look at Redis itself, so this server in memory, which speaks its protocol to the client
that they use, is enough for them.
"""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Scratchpad"]

Answer = Any  # bytes, int, None, a list or dictionary of them, or Simple
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class Simple(str):
    """An answer that is a word, such as OK."""


class Refused(Exception):
    """An answer that is an error."""


class Scratchpad(socketserver.ThreadingTCPServer):
    """The server, on a free port of this machine, as long as the block.

    Attributes:
        port: Where it listens.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.port = int(self.server_address[1])
        self.values: dict[bytes, list[bytes] | bytes] = {}
        self.ends: dict[bytes, float] = {}  # monotonic, of keys that expire
        self.changed = threading.Condition()

    def __enter__(self) -> Scratchpad:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, name: str, arguments: list[bytes]) -> Answer:
        """Do what a command says.

        Raises:
            Refused: It cannot be done.
        """
        command = COMMANDS.get(name)
        if command is None:
            raise Refused(f"ERR unknown command '{name}'")
        with self.changed:
            self._drop_expired()
            try:
                found = command(self, *arguments)
            except (TypeError, ValueError):
                raise Refused(f"ERR wrong arguments for '{name}'") from None
            self.changed.notify_all()
        return found

    def list_of(self, key: bytes) -> list[bytes]:
        """The list at a key, empty if there is none.

        Raises:
            Refused: There is something else.
        """
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise Refused(WRONG_TYPE)
        return value

    def text_of(self, key: bytes) -> bytes | None:
        """The string at a key.

        Raises:
            Refused: There is something else.
        """
        value = self.values.get(key)
        if isinstance(value, list):
            raise Refused(WRONG_TYPE)
        return value

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for key in [key for key, end in self.ends.items() if end <= now]:
            self.values.pop(key, None)
            del self.ends[key]


class Connection(socketserver.StreamRequestHandler):
    """One client: reads commands, writes answers."""

    server: Scratchpad

    def handle(self) -> None:
        """Serve until the client goes."""
        modern = False  # whether it has asked for the third version of the protocol
        try:
            for name, *arguments in self._commands():
                try:
                    found = self.server.answer(name.decode().lower(), arguments)
                    modern = modern or isinstance(found, dict)
                    nothing = b"_\r\n" if modern else b"$-1\r\n"
                    self.wfile.write(nothing if found is None else encoded(found))
                except Refused as refusal:
                    self.wfile.write(b"-%b\r\n" % str(refusal).encode())
        except ConnectionError:
            return

    def _commands(self) -> Iterator[list[bytes]]:
        while line := self.rfile.readline():
            yield [self._bulk() for _ in range(int(line[1:]))]

    def _bulk(self) -> bytes:
        length = int(self.rfile.readline()[1:])
        return self.rfile.read(length + 2)[:-2]


def encoded(answer: Answer) -> bytes:
    """An answer as it is sent."""
    if isinstance(answer, Simple):
        return b"+%b\r\n" % answer.encode()
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    if isinstance(answer, dict):
        pairs = b"".join(encoded(key) + encoded(value) for key, value in answer.items())
        return b"%%%d\r\n%b" % (len(answer), pairs)
    return b"*%d\r\n%b" % (len(answer), b"".join(map(encoded, answer)))


# ── commands ────────────────────────────────────────────────────────────────


def hello(pad: Scratchpad, version: bytes = b"2", *names: bytes) -> dict[bytes, Answer]:
    return {b"server": b"scratchpad", b"version": b"7.0.0", b"proto": int(version)}


def push(pad: Scratchpad, key: bytes, *items: bytes) -> int:
    pad.values[key] = [*pad.list_of(key), *items]
    return len(pad.list_of(key))


def part(pad: Scratchpad, key: bytes, first: bytes, last: bytes) -> list[bytes]:
    items = pad.list_of(key)
    begin, end = (
        int(each) if int(each) >= 0 else len(items) + int(each) for each in (first, last)
    )
    return items[max(begin, 0) : end + 1]


def pop(pad: Scratchpad, *arguments: bytes) -> list[bytes] | None:
    *keys, patience = arguments
    seconds = float(patience)
    deadline = time.monotonic() + seconds if seconds else None
    while True:
        for key in keys:
            if items := pad.list_of(key):
                first = items.pop(0)
                if not items:
                    del pad.values[key]
                return [key, first]
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return None
        pad.changed.wait(left)


def increase(pad: Scratchpad, key: bytes, by: bytes = b"1") -> int:
    number = int(pad.text_of(key) or 0) + int(by)
    pad.values[key] = b"%d" % number
    return number


def put(pad: Scratchpad, key: bytes, value: bytes) -> Simple:
    pad.ends.pop(key, None)
    pad.values[key] = value
    return Simple("OK")


def remove(pad: Scratchpad, *keys: bytes) -> int:
    for key in keys:
        pad.ends.pop(key, None)
    return sum(pad.values.pop(key, None) is not None for key in keys)


def expire(pad: Scratchpad, key: bytes, seconds: bytes) -> int:
    if key in pad.values:
        pad.ends[key] = time.monotonic() + int(seconds)
    return int(key in pad.values)


COMMANDS: dict[str, Callable[..., Answer]] = {
    "hello": hello,
    "ping": lambda pad: Simple("PONG"),
    "client": lambda pad, *what: Simple("OK"),  # clients introduce themselves
    "select": lambda pad, number: Simple("OK"),
    "rpush": push,
    "lrange": part,
    "llen": lambda pad, key: len(pad.list_of(key)),
    "blpop": pop,
    "incr": increase,
    "incrby": increase,
    "get": lambda pad, key: pad.text_of(key),
    "set": put,
    "exists": lambda pad, *keys: sum(key in pad.values for key in keys),
    "delete": remove,
    "del": remove,
    "expire": expire,
}
