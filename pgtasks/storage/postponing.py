"""Jobs that a worker puts off because their task has begun as often as it may."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pgtasks.job import Job
from pgtasks.storage.query import Query, load

__all__ = ["bring_forward", "postpone"]

SQL = load("postponing.sql")


def postpone(jobs: Sequence[tuple[Job, float]]) -> Query[set[int]]:
    """Put claimed jobs off; the answer is the ids of those that were ours.

    Args:
        jobs: Each with the seconds until it is due again.
    """
    document = [
        {"id": job.id, "claim_token": job.claim_token, "delay": delay}
        for job, delay in jobs
    ]
    params = {"jobs": json.dumps(document), "ids": [job.id for job, _ in jobs]}
    return Query(SQL["postpone"], params, lambda rows: {row[0] for row in rows})


def bring_forward(tasks: Sequence[str], *, limit: int = 10_000) -> Query[int]:
    """Have jobs of these tasks that were put off be due now, at most ``limit`` of them."""
    return Query(SQL["bring_forward"], {"tasks": list(tasks), "limit": limit}, len)
