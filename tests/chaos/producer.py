"""Inserts jobs at a steady rate, and notes first the intent and then the answer.

python -m tests.chaos.producer URL SEED COUNT SECONDS LOG
"""

from __future__ import annotations

import random
import sys
import time
import uuid

from pgtasks.job import NewJob
from pgtasks.storage import jobs
from pgtasks.storage.database import Database
from pgtasks.storage.errors import StorageError


def main(url: str, seed: str, count: str, seconds: str, log: str) -> None:
    """Insert ``count`` jobs over ``seconds``."""
    chance = random.Random(seed)
    database = Database(url)
    began, total, pace = time.monotonic(), int(count), float(seconds) / int(count)
    with open(log, "w", buffering=1) as file:
        for number in range(total):
            job = NewJob(
                chance.choice(["chaos.safe", "chaos.once"]),
                str(uuid.UUID(int=chance.getrandbits(128))),
                queue="chaos",
                args=f"[{chance.choice([0.001, 0.005, 0.02, 0.1])}]",
                delay=chance.choice([None, None, None, 0.5]),
            )
            file.write(f"I {job.task_id}\n")
            again = False
            while True:
                try:
                    database.run(jobs.insert([job], again=again))
                    break
                except StorageError:
                    # The answer is lost, the job perhaps not (R2).
                    again = True
                    time.sleep(chance.uniform(0.02, 0.2))
            file.write(f"A {job.task_id}\n")
            ahead = began + number * pace - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)


if __name__ == "__main__":
    main(*sys.argv[1:])
