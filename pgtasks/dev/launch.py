"""Starts the supervisor of a server, once it is clear that it can serve."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pgtasks.dev import EmbeddedPostgresError
from pgtasks.dev.binaries import find_binaries, runnable_by, server_version
from pgtasks.dev.places import Place
from pgtasks.dev.supervisor import Order

__all__ = ["Wish", "launch"]

_SETTINGS_SINCE = {
    14: {"client_connection_check_interval": "1s"},  # long statements of killed clients
    18: {"io_method": "sync"},  # three processes fewer
}
# Without site-packages and what their .pth files run, but from where pgtasks is.
_SCRIPT = (
    "import sys; sys.path.append(sys.argv[1]);"
    "from pgtasks.dev.supervisor import main; main(sys.argv[2])"
)
# Not the user's environment, in which PGOPTIONS, PGDATA or a locale speak to the server.
_KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Wish:
    """What sort of server somebody wants."""

    settings: Mapping[str, str]
    linger: float
    timeout: float
    durable: bool = True
    temporary: bool = False


def launch(place: Place, wish: Wish) -> str:
    """Start a supervisor; the answer is what it said before it had a log to say it to.

    Raises:
        EmbeddedPostgresError: It could not serve here: no programs, not these data.
    """
    binaries, hold = find_binaries(), None
    if place.account:
        binaries, hold = runnable_by(binaries, place.account)
    try:
        return _run(_order(place, wish, binaries, hold), wish.timeout)
    finally:
        if hold is not None:
            os.close(hold)  # it is the supervisor's now


def _run(order: Order, timeout: float) -> str:
    home = str(Path(__file__).resolve().parents[2])
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        # What we start forks the supervisor and returns, so that nobody inherits a zombie.
        launched = subprocess.run(
            [_python(), "-I", "-S", "-c", _SCRIPT, home, json.dumps(asdict(order))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment | {"LC_ALL": "C"},
            pass_fds=() if order.hold is None else (order.hold,),
            start_new_session=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "its supervisor does not begin"
    return launched.stderr.decode(errors="replace").strip()


def _order(place: Place, wish: Wish, binaries: Path, hold: int | None) -> Order:
    account = place.account
    version = server_version(binaries, account)
    major = _major(version)
    _check_data(place, major, f"{binaries} holds PostgreSQL {version}")
    settings = dict(wish.settings)
    for since, added in _SETTINGS_SINCE.items():
        if major >= since:
            settings = added | settings
    return Order(
        folder=str(place.folder),
        binaries=str(binaries),
        version=version,
        token=uuid.uuid4().hex,
        settings=settings,
        linger=wish.linger,
        timeout=wish.timeout,
        temporary=wish.temporary,
        durable=wish.durable,
        uid=account.uid if account else None,
        gid=account.gid if account else None,
        hold=hold,
    )


def _check_data(place: Place, major: int, found: str) -> None:
    try:
        written_by = (place.data / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        _check_name(place.uid)
        return
    if _major(written_by) != major:
        raise EmbeddedPostgresError(
            f"The data in {place.data} were written by PostgreSQL {written_by}, and "
            f"{found}. Set PGTASKS_PG_BIN to the programs of version {written_by} to go on "
            f"with these data, or remove {place.folder} to begin with an empty database."
        )


def _check_name(uid: int) -> None:
    """Containers are often run under a bare number, which initdb refuses."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"PostgreSQL's initdb needs a user with a name, and the user id {uid} has no "
            f"entry in /etc/passwd. Add one, or set PGTASKS_DATABASE_URL to a PostgreSQL "
            f"that runs already."
        ) from None


def _python() -> str:
    """A Python to run the supervisor; ``sys.executable`` may be uwsgi or empty."""
    for candidate in (
        sys.executable,
        f"{sys.exec_prefix}/bin/python3",
        shutil.which("python3"),
    ):
        named = candidate and "python" in os.path.basename(candidate)
        if candidate and named and os.path.exists(candidate):
            return candidate
    raise EmbeddedPostgresError(
        f"There is no Python to supervise the embedded PostgreSQL with: sys.executable is "
        f"{sys.executable!r} and PATH has no python3. Set PGTASKS_DATABASE_URL to a "
        f"PostgreSQL that runs already."
    )


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0
