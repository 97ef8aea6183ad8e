"""Many workers as remote control sees them, in one process: registered, and with their mail.

What is left out of a worker is what runs jobs. A command passes through the same statements,
threads and notifications as with any other.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from uuid import uuid4

from pgtasks import Celery
from pgtasks.storage import workers
from pgtasks.worker.mailbox import Mailbox

LEASE = 600.0
"""Seconds; longer than any test, as nobody renews it."""


def main(url: str, first: int, count: int) -> None:
    """Answer until standard input ends."""
    with Celery("switchboard", broker=url, set_as_current=False) as app:
        mailboxes = [_open(app, f"w{first + number}@journey") for number in range(count)]
        for each in mailboxes:
            each.start()
        print("ready", flush=True)
        sys.stdin.read()
        for each in mailboxes:
            each.stop()
            each.join(10)


def _open(app: Celery, name: str) -> Mailbox:
    worker = SimpleNamespace(
        app=app, hostname=name, begun=SimpleNamespace(worker=str(uuid4()))
    )
    app.database.run(
        workers.register(
            id=worker.begun.worker,
            name=name,
            hostname="journey",
            pid=os.getpid(),
            machine="journey",
            process_started=0.0,
            begun_file=None,
            lease=LEASE,
            queues=["celery"],
            pool="prefork",
            concurrency=1,
            version="0",
            info={},
        )
    )
    return Mailbox(worker)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
