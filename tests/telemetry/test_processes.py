"""Events of a real worker, whose jobs run in its children."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SHOP = """
import os
import pgtasks

app = pgtasks.Celery("shop", broker=os.environ["SHOP_DATABASE_URL"])

@app.task(bind=True)
def pid(self):
    return os.getpid()

pgtasks.telemetry.attach_default_logger("warning", events=["job", "queue"])
pgtasks.telemetry.attach(
    "pgtasks.job.stop", lambda event, measurements, metadata, config: print(
        f"seen by {os.getpid()}")
)
"""


@pytest.mark.journey
def test_jobs_are_told_of_by_the_children_that_run_them(database_url, tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {**os.environ, "SHOP_DATABASE_URL": database_url}
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pgtasks",
            "-A",
            "shop",
            "worker",
            "-c",
            "1",
            "-l",
            "warning",
        ],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        program = "import shop; print(shop.pid.delay().get(timeout=30))"
        child = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    finally:
        worker.terminate()
        output, _ = worker.communicate(timeout=30)

    assert int(child) != worker.pid
    assert f"seen by {child}" in output
    lines = [
        json.loads(line[line.index("{") :])
        for line in output.splitlines()
        if '"source": "pgtasks"' in line
    ]
    assert [line["event"] for line in lines] == ["job.start", "job.stop", "queue.shutdown"]
    assert lines[1]["task"] == "shop.pid"
