"""How parent and child talk: one datagram a message, whole or not at all.

The kernel keeps what a child has not yet read. The parent holds the child's end too,
so it can take unread jobs back, from a child that is busy with a long one as from one
that died: whatever is still in the socket was never begun.
"""

from __future__ import annotations

import marshal
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["LARGEST", "pair", "receive", "send"]

LARGEST = 100_000
"""Bytes that fit into one datagram whatever the kernel's defaults; more goes by file."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (near, far):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, 4 * LARGEST)
    return near, far


def send(end: socket.socket, message: tuple[Any, ...], folder: Path, *, wait: bool) -> None:
    """Send ``message``, values that marshal knows.

    Raises:
        BlockingIOError: The other side has too much unread, and ``wait`` is false.
    """
    data = marshal.dumps(message)
    if len(data) <= LARGEST:
        end.send(data, 0 if wait else socket.MSG_DONTWAIT)
        return
    descriptor, name = tempfile.mkstemp(prefix="parcel-", dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    try:
        end.send(marshal.dumps(("file", name)), 0 if wait else socket.MSG_DONTWAIT)
    except BaseException:
        os.unlink(name)
        raise


def receive(end: socket.socket, buffer: bytearray, *, wait: bool) -> tuple[Any, ...] | None:
    """The next message; None when the other side is gone.

    Raises:
        BlockingIOError: There is none, and ``wait`` is false.
    """
    size = end.recv_into(buffer, 0, 0 if wait else socket.MSG_DONTWAIT)
    if not size:
        return None
    message: tuple[Any, ...] = marshal.loads(memoryview(buffer)[:size])
    if message[0] == "file":
        path = Path(message[1])
        message = marshal.loads(path.read_bytes())
        path.unlink()
    return message
