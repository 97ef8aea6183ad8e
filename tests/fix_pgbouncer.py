"""A real PgBouncer before the database of a test, where there is one to start."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from helpers import eventually

_INI = """
[databases]
* = host={host} port={port} user={user} {password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 5
{extra}
"""


@pytest.fixture
def pgbouncer(database_url: str) -> Iterator[Callable[..., str]]:
    """Starts a PgBouncer before the test's database and returns the address through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (apt-get install pgbouncer)")
    with contextlib.ExitStack() as stack:

        def start(mode: str = "transaction", extra: str = "") -> str:
            # Not below tmp_path: PgBouncer refuses to be root, whose folder that may be.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgb-")))
            return _start_pgbouncer(stack, program, database_url, folder, mode, extra)

        yield start


def _start_pgbouncer(
    stack: contextlib.ExitStack,
    program: str,
    database_url: str,
    folder: Path,
    mode: str,
    extra: str,
) -> str:
    server = {name: str(value) for name, value in conninfo_to_dict(database_url).items()}
    server = {"host": "127.0.0.1", "port": "5432", **server}
    server["password"] = f"password='{server['password']}'" if "password" in server else ""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = probe.getsockname()[1]
    ini = folder / "pgbouncer.ini"
    ini.write_text(_INI.format(**server, listen=listen, mode=mode, extra=extra))
    command = [program, str(ini)]
    if os.getuid() == 0:
        # The one whose socket it is may open it.
        home = Path(server["host"])
        account = (
            home.owner() if home.is_absolute() and home.owner() != "root" else "nobody"
        )
        shutil.chown(folder, account)
        shutil.chown(ini, account)
        command[1:1] = ["-u", account]
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    stack.callback(process.wait)
    stack.callback(process.kill)
    url = f"postgresql://{server['user']}@127.0.0.1:{listen}/{server['dbname']}"

    def answers() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", listen), timeout=2).close()
            return True
        return False

    eventually(answers, message=log.read_text)
    return url
