"""A job in the caller's transaction, by each driver: there with the commit, or never."""

from __future__ import annotations

from typing import Any

import pytest

from pgtasks import chord, group, using
from transactions.drivers import ASYNC_DRIVERS, DRIVERS

ENDS = pytest.mark.parametrize("end", ["commit", "rollback"])


def check(witness: Any, end: str, sent: list[str]) -> None:
    """What is to be seen and heard after the end of the transaction."""
    if end == "commit":
        assert witness.jobs() == sorted(sent)
        assert witness.orders() == 1
        assert witness.heard(timeout=10) == {"celery"}
    else:
        assert witness.jobs() == []
        assert witness.orders() == 0
        assert witness.heard() == set()


@ENDS
@pytest.mark.parametrize("driver", DRIVERS)
def test_jobs_belong_to_the_transaction(driver, end, app, confirm, witness):
    with DRIVERS[driver](app.database.url) as transaction:
        lent = transaction.lend
        sent = [confirm.apply_async((1,), connection=lent).id]
        with using(lent):
            sent.append(confirm.delay(2).id)
            sent.append(app.send_task("tests.unknown").id)
            sent.append(confirm.apply_async((3,), countdown=60, tags=["late"]).id)
        sent += [each.id for each in confirm.delay_many([(4,), (5,)], connection=lent)]
        body = chord([confirm.s(6), confirm.s(7)], confirm.s()).apply_async(connection=lent)
        sent += [body.id, *[member.id for member in body.parent.results]]

        assert witness.jobs() == []
        assert witness.heard() == set()
        getattr(transaction, end)()

        check(witness, end, sent)


@ENDS
@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_jobs_of_coroutines_belong_to_the_transaction(
    driver, end, app, confirm, witness, run
):
    async def main() -> list[str]:
        async with ASYNC_DRIVERS[driver](app.database.url) as transaction:
            lent = transaction.lend
            sent = [(await confirm.aapply_async((1,), connection=lent)).id]
            with using(lent):
                sent.append((await confirm.adelay(2)).id)
                sent.append((await app.asend_task("tests.unknown")).id)
                late = confirm.aapply_async((3,), countdown=60, tags=["late"])
                sent.append((await late).id)
            many = await confirm.adelay_many([(4,), (5,)], connection=lent)
            sent += [each.id for each in many]
            flow = group([confirm.s(6), confirm.s(7)]) | confirm.s()
            body = await flow.aapply_async(connection=lent)
            sent += [body.id, *[member.id for member in body.parent.results]]

            assert witness.jobs() == []
            assert witness.heard() == set()
            await getattr(transaction, end)()
            return sent

    check(witness, end, run(main()))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_result_cannot_be_waited_for_before_the_commit(driver, app, confirm, witness):
    from pgtasks.exceptions import NotCommitted

    with DRIVERS[driver](app.database.url) as transaction:
        result = confirm.apply_async((1,), connection=transaction.lend)
        with pytest.raises(NotCommitted, match="Commit first"):
            result.get(timeout=60)
        transaction.commit()
        with pytest.raises(app.AsyncResult.TimeoutError):
            result.get(timeout=0)


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_a_result_cannot_be_awaited_before_the_commit(driver, app, confirm, witness, run):
    from pgtasks.exceptions import NotCommitted

    async def main() -> None:
        async with ASYNC_DRIVERS[driver](app.database.url) as transaction:
            result = await confirm.aapply_async((1,), connection=transaction.lend)
            with pytest.raises(NotCommitted, match="Commit first"):
                await result.aget(timeout=60)
            await transaction.commit()
            with pytest.raises(app.AsyncResult.TimeoutError):
                await result.aget(timeout=0.01)

    run(main())
