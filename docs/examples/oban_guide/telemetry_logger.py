"""Says in the log what jobs do and how long they take, and cries out where it matters."""

from __future__ import annotations

import logging

from pgtasks import telemetry

logger = logging.getLogger("bookshop.jobs")

EVENTS = ["pgtasks.job.start", "pgtasks.job.stop", "pgtasks.job.exception"]


def on_event(event: str, measurements: dict, metadata: dict, config: dict) -> None:
    who = f"{metadata['task']} in {metadata['queue']}, attempt {metadata['attempt']}"
    if event.endswith(".start"):
        logger.info("job begins: %s", who)
        return
    milliseconds = 1000 * measurements["duration"]
    if event.endswith(".stop"):
        logger.info("job ends: %s: %s, %.1f ms", who, metadata["state"], milliseconds)
    else:
        error = metadata["error"]
        logger.error("job failed: %s: %r, %.1f ms", who, error, milliseconds)
        if metadata["queue"] in config["critical"]:
            logger.critical("ALERT: %s failed", metadata["task"])
    # An event of one's own, for whoever counts.
    labels = {"task": metadata["task"], "queue": metadata["queue"]}
    telemetry.execute("bookshop.job.duration", {"milliseconds": milliseconds}, labels)


# Where the tasks are defined: so in each process that runs them.
telemetry.attach_many("bookshop", EVENTS, on_event, {"critical": {"critical"}})
