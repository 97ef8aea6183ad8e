"""What ten thousand entries cost whoever leads: `python -m tests.beat.measure [--entries N]`.

It measures the processor time of this process, which is a leader and nothing else, and how
late ticks are inserted by the clock of the database.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import psycopg

from pgtasks import Celery
from pgtasks.dev.postgres import private_server
from pgtasks.plugins.runner import Runner
from pgtasks.schedules import crontab
from pgtasks.storage import schema


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with private_server() as server:
        schema.apply(server.url)
        measure(server.url, options.entries, options.seconds)


def measure(url: str, entries: int, seconds: float) -> None:
    """One leader and its schedule, first idle, then with something to do."""
    app = Celery("measured", broker=url, set_as_current=False)
    app.conf.beat_schedule = {
        f"entry {number}": _entry(number) for number in range(entries)
    }
    runner = Runner(app, node="measured")
    took, _ = cpu(runner.step)
    print(f"begin with {entries} entries: {took:.2f} s of CPU")
    settle(runner)
    began, busy, steps = time.monotonic(), 0.0, 0
    while time.monotonic() < began + seconds:
        spent, (wait, _) = cpu(runner.step)
        busy, steps = busy + spent, steps + 1
        time.sleep(wait)
    share = busy / (time.monotonic() - began)
    print(f"idle: {share:.2%} of a core, {busy / steps * 1e3:.2f} ms a look")
    runner.close()

    app.conf.beat_schedule = {
        **app.conf.beat_schedule,
        "often": {"task": "t", "schedule": 0.5},
    }
    runner = Runner(app, node="measured")
    settle(runner)
    begun = runner.clock.now()
    began, costs = time.monotonic(), []
    while time.monotonic() < began + seconds:
        spent, (wait, sent) = cpu(runner.step)
        if sent:
            costs.append(spent * 1e3)
        time.sleep(wait)
    costs.sort()
    print(
        f"a tick: {costs[len(costs) // 2]:.2f} ms of CPU (median), {costs[-1]:.2f} at most"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        [(median, worst)] = connection.execute(
            "select percentile_cont(0.5) within group (order by late), max(late) from ("
            "select extract(epoch from inserted_at - tick)::float8 * 1e3 as late "
            "from pgtasks.cron_ticks where entry = 'measured often' and tick > %s) as ticks",
            [begun],
        ).fetchall()
        print(f"inserted {median:.1f} ms after its time (median), {worst:.1f} at most")
        connection.execute(
            "update pgtasks.crons set last_tick = clock_timestamp() - interval '400 days', "
            "revision = revision + 1"
        )
    runner.wake()
    began, busy, count = time.monotonic(), 0.0, 0
    while count < entries and time.monotonic() < began + 120:
        spent, (_, sent) = cpu(runner.step)
        busy, count = busy + spent, count + sent
    took = time.monotonic() - began
    print(f"{count} at once: {took:.2f} s, {busy / count * 1e6:.0f} µs of CPU each")
    runner.close()
    app.close()


def _entry(number: int) -> dict[str, Any]:
    """None of them is due while this runs."""
    if number % 2:
        return {"task": "t", "schedule": 86400.0 + number}
    hour = (time.gmtime().tm_hour + 12) % 24
    return {"task": "t", "schedule": crontab(str(number % 60), str(hour)), "args": [number]}


def settle(runner: Runner) -> None:
    """Until nothing is left to do at once."""
    for _ in range(20):
        if runner.step()[0] > 0.01:
            return


def cpu(step: Any) -> tuple[float, Any]:
    """Seconds of this process's CPU that a call takes, and its answer."""
    began = time.process_time()
    answer = step()
    return time.process_time() - began, answer


if __name__ == "__main__":
    main()
