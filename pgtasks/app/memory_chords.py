"""Chords whose jobs are kept in memory: who has ended, and whom that releases.

What the tables count by statement is counted here by hand. Whoever calls holds the lock of
the queue.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pgtasks import states
from pgtasks.job import NewJob, Outcome
from pgtasks.storage.results import Member

__all__ = ["ChordBook", "as_ended"]


@dataclass
class _Chord:
    #: Jobs under way whose end counts here, or what follows them in their chain.
    under_way: int = 0
    #: How many members the header has, at least.
    size: int = 0
    #: Members that have left without an end: purged.
    gone: int = 0
    #: Places and ends of members, in the order in which they ended.
    ends: dict[str, tuple[int | None, Member]] = field(default_factory=dict)
    #: The jobs that wait, by the ids of their rows.
    waiting: set[int] = field(default_factory=set)
    #: Those of them that have not ended, released or not.
    bodies: set[int] = field(default_factory=set)

    @property
    def over(self) -> bool:
        # The count alone would release the body between the sending of two members.
        return self.under_way <= 0 and len(self.ends) + self.gone >= self.size


class ChordBook:
    """Keeps count of all chords of a queue in memory."""

    def __init__(self) -> None:
        self._chords: dict[str, _Chord] = {}

    def sent(self, id: int, job: NewJob) -> None:
        """A job was inserted: it may count in a chord, or wait for one, or both."""
        if job.chord is not None:
            self._chord(job.chord).under_way += 1
        if job.awaits is not None:
            chord = self._chord(job.awaits)
            chord.waiting.add(id)
            chord.bodies.add(id)
            chord.size = max(chord.size, _header_size(job))

    def ended(self, id: int, job: NewJob, outcome: Outcome) -> None:
        """A job ended; what follows it was inserted before."""
        chord = self._chords.get(job.chord or "")
        if chord is not None:
            if job.chord == job.group_id and not outcome.replaced:
                self._note(chord, job, outcome)
            chord.under_way -= 1
        for row in outcome.stillborn:
            unborn, end = as_ended(row)
            missed = self._chords.get(unborn.group_id or "")
            if missed is not None:
                self._note(missed, unborn, end)
        self._leave(id, job)

    def purged(self, id: int, job: NewJob) -> None:
        """A job was deleted before it ran."""
        chord = self._chords.get(job.chord or "")
        if chord is not None:
            chord.under_way -= 1
            chord.gone += 1
        self._leave(id, job)

    def released(self, name: str | None) -> list[int]:
        """The jobs that need not wait any more, now that something happened to a chord."""
        chord = self._chords.get(name or "")
        if chord is None or not chord.over:
            return []
        ids, chord.waiting = sorted(chord.waiting), set()
        return ids

    def members(self, name: str) -> list[Member]:
        """The members that have ended, in the order of the header."""
        chord = self._chords.get(name)
        if chord is None:
            return []
        ends = sorted(chord.ends.values(), key=lambda end: (end[0] is None, end[0] or 0))
        return [member for _, member in ends]

    def _chord(self, name: str) -> _Chord:
        return self._chords.setdefault(name, _Chord())

    def _note(self, chord: _Chord, job: NewJob, outcome: Outcome) -> None:
        member = Member(
            job.task_id,
            outcome.state,
            outcome.status,
            outcome.result,
            outcome.result_body,
            outcome.result_content_type,
            outcome.traceback,
        )
        # Each member once, however often it ends.
        chord.ends[job.task_id] = (job.group_index, member)

    def _leave(self, id: int, job: NewJob) -> None:
        chord = self._chords.get(job.awaits or "")
        if chord is not None:
            chord.waiting.discard(id)
            chord.bodies.discard(id)
            if not chord.bodies and chord.over:
                # Nobody will ask for the results again.
                del self._chords[job.awaits or ""]


def _header_size(job: NewJob) -> int:
    embed: dict[str, Any] = json.loads(job.embed) if job.embed else {}
    size: int = (embed.get("header") or {}).get("size", 0)
    return size


def as_ended(row: dict[str, Any]) -> tuple[NewJob, Outcome]:
    """A task that never ran, from ``Outcome.stillborn``, as a job and its end."""
    job = NewJob(
        row.get("task", ""),
        row["task_id"],
        group_id=row.get("group_id"),
        group_index=row.get("group_index"),
        root_id=row.get("root_id"),
        parent_id=row.get("parent_id"),
    )
    body = row.get("result_body")
    outcome = Outcome(
        0,
        "",
        states.DISCARDED,
        row.get("status"),
        row.get("result"),
        # As PostgreSQL reads and writes bytes in text.
        None if body is None else bytes.fromhex(body.removeprefix("\\x")),
        row.get("result_content_type"),
        row.get("traceback"),
    )
    return job, outcome
