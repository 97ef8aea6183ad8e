"""Rows that anybody may have put into the table: none may cost a neighbour anything."""

from __future__ import annotations

import psycopg
import pytest
from corpus import Case, cases
from workplace import Workplace

pytestmark = pytest.mark.journey


@pytest.mark.parametrize("case", cases("table-row"))
def test_a_bad_row(case: Case, workplace: Workplace):
    rows = case.more["rows"]
    if not isinstance(rows, list):
        pytest.skip("x")
    if case.expect == "reject_at_call":
        for row in rows:
            with pytest.raises(getattr(psycopg.errors, case.more["raises"])):
                workplace.put(row)
        with workplace.undisturbed():
            pass
        return
    import time

    if case.more.get("slow_insert"):
        ids = workplace.put(*[{**row, "state": "'suspended'"} for row in rows])
        with workplace.undisturbed(together=True):
            workplace.query(
                "update pgtasks.jobs set state='available', scheduled_at=clock_timestamp() where task_id=any(%s)",
                ids,
            )
            t = time.time()
    else:
        with workplace.undisturbed(together=True):
            ids = workplace.put(*rows)
            t = time.time()
    workplace.wait(*ids)
    print(time.time() - t)
    for id in ids:
        job = workplace.job(id)
        print(
            case.expect,
            job["state"],
            [(e["kind"], e["message"][:300]) for e in job["errors"]],
            job["attempt"],
            workplace.events(id),
        )
