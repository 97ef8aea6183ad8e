"""Workers, producers and faults against one PostgreSQL; then the checks.

    python -m tests.chaos [--seconds 120] [--jobs 10000] [--seed 1] [--keep FOLDER]

The same seed gives the same faults in the same order at the same pauses; what they hit
depends on the machine.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from pgtasks.dev.postgres import private_server
from pgtasks.storage import schema
from tests.chaos.checks import examine
from tests.chaos.faults import ROOT, Crew


def main() -> int:
    """Run; the answer is 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--lease", type=float, default=3.0)
    parser.add_argument(
        "--gap", type=float, default=1.0, help="mean seconds between faults"
    )
    parser.add_argument("--keep", type=Path, help="folder for the logs")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="pgtasks-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    with private_server(durable=True) as server:
        schema.apply(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(Path(__file__).with_name("schema.sql").read_text())
        return storm(server, folder, options)


def storm(server, folder: Path, options: argparse.Namespace) -> int:
    """Let producers and faults loose, wait until all is done, examine."""
    crew = Crew(server, folder, options.seed, workers=options.workers, lease=options.lease)
    logs = [folder / f"producer-{number}.log" for number in range(2)]
    producers = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.chaos.producer",
                server.url,
                f"{options.seed}-{number}",
                str(options.jobs // 2),
                str(options.seconds * 0.8),
                str(log),
            ],
            cwd=ROOT,
        )
        for number, log in enumerate(logs)
    ]
    try:
        strike_for(options, crew)
        for producer in producers:
            producer.wait(60)
        drained = drain(server.url, crew)
        codes = crew.stop()
    finally:
        # However it ends, nothing of it may go on.
        for process in [*producers, *crew.processes]:
            process.kill()
            process.wait()
    faults = sum(crew.counts.values())
    print(f"{faults} faults in {options.seconds:.0f} s: {dict(crew.counts)}")
    print(f"drained {drained:.1f} s after the last fault" if drained else "did not drain")
    # One that was just being restarted may not have its signal handlers yet.
    print(f"workers ended with {codes}")
    (folder / "faults.log").write_text("\n".join(crew.log))
    orderly = bool(drained) and set(codes) <= {0, -signal.SIGTERM}
    kept = examine(server.url, logs, folder / "begun.log") and orderly
    print("PASS" if kept else f"FAIL (logs in {folder}, seed {options.seed})")
    return 0 if kept else 1


def strike_for(options: argparse.Namespace, crew: Crew) -> None:
    """Do harm at random times, and keep the workers running, for ``options.seconds``."""
    began = time.monotonic()
    next_strike = 2.0
    while (now := time.monotonic() - began) < options.seconds:
        crew.tend()
        if now >= next_strike:
            crew.strike()
            next_strike = now + crew.chance.expovariate(1 / options.gap)
        time.sleep(0.05)


def drain(url: str, crew: Crew) -> float:
    """Wait until no job is left; the answer is how long that took, 0 if too long."""
    began = time.monotonic()
    while time.monotonic() - began < 90:
        crew.tend()
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                [(left,)] = connection.execute(
                    "select count(*) from pgtasks.jobs"
                ).fetchall()
        except psycopg.OperationalError:
            left = -1
        if left == 0:
            return time.monotonic() - began
        time.sleep(0.3)
    return 0.0


if __name__ == "__main__":
    raise SystemExit(main())
