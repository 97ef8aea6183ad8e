"""Web servers whose processes send tasks and wait for them, after whatever forked them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import Fleet
from helpers import eventually
from servers import NAME, PATIENCE, serving

pytest.importorskip("flask")
pytest.importorskip("gunicorn")
pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]

GEVENT = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="gevent is not installed"
)


@pytest.fixture(scope="module")
def company(module_database: str, tmp_path_factory: Any) -> Iterator[Fleet]:
    """The worker of all these sites; its tasks need the context of the one in Flask."""
    fleet = Fleet(module_database, tmp_path_factory.mktemp("company"))
    try:
        process = fleet.start("-P", "threads", "-c", "8", "-Q", "journey", app="storefront")
        yield fleet
        assert fleet.stop(process) == 0
    finally:
        fleet.close()


def backends(company: Fleet) -> dict[int, Any]:
    """The connections of a site, with the time at which each was made."""
    return dict(
        company.query(
            "select pid, backend_start from pg_stat_activity "
            "where application_name = %s and datname = current_database()",
            f"pgtasks {NAME}",
        )
    )


SERVERS = [
    pytest.param("gunicorn", "storefront:site", ["-k", "sync"], "/add", id="sync"),
    pytest.param(
        "gunicorn",
        "storefront:site",
        ["-k", "gthread", "--threads", "8"],
        "/add",
        id="gthread",
    ),
    pytest.param(
        "gunicorn", "storefront:site", ["-k", "gevent"], "/add", id="gevent", marks=GEVENT
    ),
    pytest.param("uvicorn", "kiosk:site", [], "/add", id="uvicorn"),
    pytest.param("uvicorn", "kiosk:site", [], "/plain", id="delay-in-a-loop"),
    pytest.param("uvicorn", "kiosk:site", [], "/thread", id="uvicorn-thread"),
]


@pytest.mark.parametrize(("kind", "site", "options", "path"), SERVERS)
def test_two_hundred_requests_at_once_get_their_results_and_no_connection_is_shared(
    company: Fleet, kind: str, site: str, options: list[str], path: str
):
    with serving(kind, site, *options, WEB_USE="1", JOURNEY_URL=company.url) as server:
        answers = server.get_all([f"{path}?x={n}" for n in range(200)])

        assert [each["sum"] for each in answers] == [2 * n for n in range(200)]
        assert {each["pid"] for each in answers} <= server.workers()
        held = [server.sockets(pid) for pid in server.workers()]
        if kind == "gunicorn":  # uvicorn talks to its children by sockets
            held.append(server.sockets(server.process.pid))
        assert len(set().union(*held)) == sum(map(len, held))
        assert "Traceback" not in server.log
    eventually(lambda: not backends(company), timeout=PATIENCE)
