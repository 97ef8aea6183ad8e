"""Unique jobs in the caller's transaction, by each driver."""

from __future__ import annotations

import pytest

from pgtasks import using
from transactions.drivers import ASYNC_DRIVERS, DRIVERS

ENDS = pytest.mark.parametrize("end", ["commit", "rollback"])
UNIQUE = {"unique": {"period": 60}}
KEYED = {"unique": {"fields": ["task"]}, "replace": ["args"]}


@ENDS
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_first_of_a_transaction_keeps_the_others_out(
    driver, end, app, confirm, witness
):
    before = confirm.apply_async((0,), **UNIQUE)
    with DRIVERS[driver](app.database.url) as transaction, using(transaction.lend):
        first = confirm.apply_async((1,), **UNIQUE)
        again = confirm.apply_async((1,), **UNIQUE)
        known = confirm.apply_async((0,), **UNIQUE)
        many = confirm.apply_async_many([(1,), (2,), (2,), (0,)], **UNIQUE)
        changed = confirm.apply_async((5,), queue="other", **KEYED)
        last = confirm.apply_async((6,), queue="other", **KEYED)
        getattr(transaction, end)()

    assert (first.conflict, again.conflict, known.conflict) == (False, True, True)
    assert (again.id, known.id) == (first.id, before.id)
    assert [each.conflict for each in many] == [True, False, True, True]
    assert [each.id for each in many] == [first.id, many[1].id, many[1].id, before.id]
    assert (last.id, last.conflict) == (changed.id, True)
    left = {before.id}
    if end == "commit":
        left |= {first.id, many[1].id, changed.id}
    assert witness.jobs() == sorted(left)
    # And what was rolled back keeps nobody out.
    assert confirm.apply_async((2,), **UNIQUE).conflict is (end == "commit")


@ENDS
@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_of_coroutines_too(driver, end, app, confirm, witness, run):
    async def main() -> set[str]:
        before = await confirm.aapply_async((0,), **UNIQUE)
        async with ASYNC_DRIVERS[driver](app.database.url) as transaction:
            with using(transaction.lend):
                first = await confirm.aapply_async((1,), **UNIQUE)
                again = await confirm.aapply_async((1,), **UNIQUE)
                known = await confirm.aapply_async((0,), **UNIQUE)
                many = await confirm.aapply_async_many([(1,), (2,), (2,)], **UNIQUE)
                changed = await confirm.aapply_async((5,), queue="other", **KEYED)
                last = await confirm.aapply_async((6,), queue="other", **KEYED)
            await getattr(transaction, end)()
        assert (again.id, known.id) == (first.id, before.id)
        assert [each.id for each in many] == [first.id, many[1].id, many[1].id]
        assert (last.id, last.conflict) == (changed.id, True)
        again = await confirm.aapply_async((2,), **UNIQUE)
        assert again.conflict is (end == "commit")
        left = {before.id, again.id}
        if end == "commit":
            left |= {first.id, changed.id}
        return left

    left = run(main())
    assert set(witness.jobs()) == left
