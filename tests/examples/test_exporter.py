"""The exporter of docs/examples, asked by HTTP while events come."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from helpers import eventually
from pgtasks import Celery
from pgtasks.storage import events

EXPORTER = Path(__file__).parents[2] / "docs" / "examples" / "exporter" / "exporter.py"

pytestmark = pytest.mark.timeout(120)


def test_it_counts_what_workers_tell(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text("from pgtasks import Celery\napp = Celery('proj')\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, EXPORTER, "proj:app", str(port)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PGTASKS_DATABASE_URL": database_url,
            "PYTHONPATH": str(tmp_path),
        },
        stderr=subprocess.DEVNULL,
    )

    def metrics() -> str:
        with urlopen(f"http://127.0.0.1:{port}", timeout=30) as answer:
            text: str = answer.read().decode()
        return text

    try:
        with Celery("proj", broker=database_url, set_as_current=False) as app:
            eventually(lambda: app.database.run(events.listened()), 60)
            with app.events.default_dispatcher(hostname="w@here") as dispatcher:
                dispatcher.send("worker-heartbeat", freq=60.0)
                for uuid in ("a", "b"):
                    dispatcher.send("task-received", uuid=uuid, name="shop.ship")
                dispatcher.send("task-succeeded", uuid="a", result="1", runtime=0.1)
        eventually(lambda: "task_succeeded" in metrics(), 60)

        assert metrics().splitlines() == [
            'celery_task_received_total{name="shop.ship"} 2',
            'celery_task_succeeded_total{name="shop.ship"} 1',
            'celery_worker_up{hostname="w@here"} 1',
        ]
    finally:
        process.kill()
        process.wait()
