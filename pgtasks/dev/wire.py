"""Just enough of PostgreSQL's protocol to log in and ask one thing, without a driver."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct

NAME = "pgtasks"  # of the superuser, and of the database
PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
NO_DATABASE, TOO_MANY, UNREACHABLE = "3D000", "53300", "08006"

_SIMPLE_LOGIN = 3 << 16  # protocol 3.0
_LONGEST_PATH = 90  # a socket's path may have 104 bytes on macOS, 108 on Linux


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(fields.get("M", "no reason given"))
        self.code = fields.get("C", "")


def ask(path: str, database: str, statement: str = "", timeout: float = 5.0) -> list[str]:
    """Log in at the socket ``path`` and run a statement; the answer is the first column."""
    words = ("user", NAME, "database", database, "application_name", "pgtasks.dev", "")
    login = struct.pack("!i", _SIMPLE_LOGIN) + b"".join(
        word.encode() + b"\0" for word in words
    )
    answer: list[str] = []
    with socket.socket(socket.AF_UNIX) as server, server.makefile("rb") as stream:
        server.settimeout(timeout)
        server.connect(path)
        server.sendall(struct.pack("!i", len(login) + 4) + login)
        asked = not statement
        while True:
            head = stream.read(5)
            if len(head) < 5:
                raise ConnectionError("the server hung up")
            kind, length = struct.unpack("!ci", head)
            body = stream.read(length - 4)
            if kind == b"E":
                parts = body.rstrip(b"\0").split(b"\0")
                raise Refused(
                    {p[:1].decode(): p[1:].decode(errors="replace") for p in parts}
                )
            if kind == b"D":
                (size,) = struct.unpack_from("!i", body, 2)
                answer.append(body[6 : 6 + max(0, size)].decode())
            elif kind == b"Z" and not asked:
                query = statement.encode() + b"\0"
                server.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
                asked = True
            elif kind == b"Z":
                server.sendall(b"X\0\0\0\4")
                return answer


def login(path: str) -> str:
    """Log in and out again: the SQLSTATE of the refusal, or ``""`` when let in.

    This is the only honest test for "accepts connections": a process that exists may be a
    zombie, and a socket that answers may belong to a server that is still starting.
    """
    try:
        ask(path, NAME)
    except Refused as refused:
        return refused.code
    except OSError:
        return UNREACHABLE
    return ""


def accepts(path: str) -> bool:
    """Whether the server behind the socket is up; a full one is."""
    return login(path) in ("", TOO_MANY)


def socket_folder(folder: str, uid: int) -> str:
    """Where the socket is: in ``folder``, or in ``/tmp`` when that is no address.

    Too long a path does not, nor one with a comma: libpq splits there. The name is
    always the same: clients go on with the address they know when a server has been
    started anew.
    """
    short = len(os.path.join(folder, SOCKET)) <= _LONGEST_PATH
    if short and folder.isascii() and "," not in folder:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return f"/tmp/pgtasks-{uid}-{digest}"  # noqa: S108 - its owner is checked


def claim(folder: str) -> bool:
    """Make a folder in ``/tmp`` that is ours alone, unless somebody else was there first."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return False
    os.chmod(folder, 0o700)
    return True
