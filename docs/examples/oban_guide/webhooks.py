"""Tells other people's servers what happened: wait when they ask for it, give up at 404."""

from __future__ import annotations

import json
import logging
import os
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from bookshop import app

from pgtasks import Discard, Snooze

logger = logging.getLogger("bookshop.webhooks")

FIRST_WAIT = float(os.environ.get("BOOKSHOP_FIRST_WAIT", "30"))


def wait(attempt: int) -> float:
    """30 s, a minute, two minutes …, and at most an hour."""
    return min(FIRST_WAIT * 2 ** (attempt - 1), 3600)


@app.task(bind=True, max_attempts=10, backoff=wait)
def deliver(self, url: str, event_id: str, payload: dict) -> int:
    request = Request(
        url,
        data=json.dumps(payload).encode(),
        # The same for every attempt, so that the receiver knows what it has had.
        headers={"Content-Type": "application/json", "Idempotency-Key": event_id},
    )
    try:
        with urlopen(request, timeout=10) as response:
            return response.status
    except HTTPError as error:
        if error.code == 429:
            # Not a failure of ours: it costs none of the attempts.
            return Snooze(float(error.headers.get("Retry-After", 60)))
        if error.code in (404, 410):
            logger.warning("%s is gone: event %s is dropped.", url, event_id)
            return Discard("endpoint not found")
        logger.error(
            "%s answered %d to event %s, attempt %d of %d.",
            *(url, error.code, event_id, self.request.attempt, self.request.max_attempts),
        )
        raise
