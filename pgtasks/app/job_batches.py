"""Jobs by the thousand: found first, then taken in batches, each a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from pgtasks.app.job_filter import filter_of
from pgtasks.app.job_refusals import refusal
from pgtasks.app.job_search import PATIENCE, Search, id_of

__all__ = ["BATCH", "Batches", "Ids", "Progress", "Step"]

BATCH = 1000
"""Jobs of one statement, and of one transaction."""

Progress: TypeAlias = Callable[[int], object]
Ids: TypeAlias = "list[str]"
Step: TypeAlias = Callable[[Ids, str, Mapping[str, str]], int]
"""Does something to some ids, under a filter; it is told the states that were found."""


class Batches(Search):
    """The middle floor of ``app.jobs``: which jobs are meant, and one batch after the other."""

    def _do(
        self,
        doing: str,
        possible: frozenset[str],
        step: Step,
        job: Any,
        filters: Mapping[str, Any],
        dry_run: bool,
        progress: Progress | None,
        batch: int,
    ) -> int:
        """Take the jobs that are meant in batches, and add up what each step has done."""
        wanted = filter_of(filters)
        named = _ids_of(job)
        if named is None and not wanted:
            raise TypeError(
                f"Which jobs shall be {doing}? Give an id, a list of ids, or a filter such as "
                f"state= or queue=; all of them are state={sorted(possible)}."
            )
        if named is not None and wanted:
            raise TypeError("Give either jobs or a filter, not both.")
        text = wanted.text(self.app, possible, doing=doing)
        one = named[0] if named is not None and not _is_many(job) else None
        found = self._found(text) if named is None else self._named(named)
        if one is not None and one not in found:
            self.get(one)  # which raises
        done = 0
        if dry_run:
            able = [each for each, state in found.items() if state in possible]
            if one is not None and not able:
                raise refusal(self.get(one), doing)
            return len(able)
        ids = [*found]
        for start in range(0, len(ids), batch):
            count = step(ids[start : start + batch], text, found)
            done += count
            if progress is not None:
                progress(count)
        if one is not None and not done:
            raise refusal(self.get(one), doing)
        return done

    def _found(self, text: str) -> dict[str, str]:
        """Ids and states of what the filter finds, taken down before anything is done.

        So that what is retried and fails again meanwhile is not found for ever.
        """
        from pgtasks.storage import browse

        states_by_id: dict[str, str] = {}
        page = self._run(browse.find(text), timeout=PATIENCE)
        while page:
            for each in page:
                states_by_id.setdefault(each.task_id, each.state)
            after = page[-1].id, page[-1].task_id
            page = self._run(browse.find(text, after=after), timeout=PATIENCE)
        return states_by_id

    def _named(self, ids: Ids) -> dict[str, str]:
        from pgtasks.storage import browse

        found: dict[str, str] = {}
        for start in range(0, len(ids), BATCH):
            rows = self._run(browse.look_up(ids[start : start + BATCH], max_size=0))
            found.update({each: rows[each].state for each in ids if each in rows})
        return found


def _is_many(job: Any) -> bool:
    # A GroupResult is one; an AsyncResult is not, though it can be iterated over.
    return (
        isinstance(job, Iterable)
        and not isinstance(job, str)
        and not hasattr(job, "task_id")
    )


def _ids_of(job: Any) -> Ids | None:
    if job is None:
        return None
    return list(dict.fromkeys(map(id_of, job))) if _is_many(job) else [id_of(job)]
