"""What type checkers must accept, and what they must make of it. Never run."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from pgtasks import App, Celery, current_app, shared_task
from pgtasks.app.task import Task
from pgtasks.result import AsyncResult, EagerResult

app = Celery("typed", broker="memory://")


@app.task
def add(x: int, y: int = 2) -> int:
    return x + y


@app.task()
def greet(name: str) -> str:
    return name


@app.task(bind=True, queue="mail", max_retries=5, my_own_option=object())
def bound(self: Task[..., Any], order: int, *, urgent: bool = False) -> list[int]:
    self.retry(countdown=3)
    return [order]


@app.task(name="named", bind=False)
def named(*numbers: float) -> float:
    return sum(numbers)


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task(bind=True)
async def fetch_bound(self: Any, url: str) -> bytes:
    return url.encode()


@shared_task
def shared(x: int) -> str:
    return str(x)


@shared_task(bind=True, ignore_result=True)
def shared_bound(self: Any, x: int) -> str:
    return str(x)


@shared_task(name="other")
def shared_named(x: int) -> str:
    return str(x)


assert_type(add.delay(1), AsyncResult[int])
assert_type(add.delay(1, y=3).get(timeout=10), int)
assert_type(add.apply_async((1, 2), countdown=3, queue="x", my_header=1), AsyncResult[int])
assert_type(add.apply((1, 2)), EagerResult[int])
assert_type(add(1, 2), int)
assert_type(greet.delay("you"), AsyncResult[str])
assert_type(bound.delay(5, urgent=True), AsyncResult[list[int]])
assert_type(named.delay(1, 2.5, 3), AsyncResult[float])
assert_type(fetch.delay("url"), AsyncResult[bytes])
assert_type(fetch_bound.delay("url"), AsyncResult[bytes])
assert_type(shared.delay(1), AsyncResult[str])
assert_type(shared_bound.delay(1), AsyncResult[str])
assert_type(shared_named.delay(x=1), AsyncResult[str])
assert_type(App is Celery, bool)


async def calls() -> None:
    assert_type(await add.adelay(1, 2), AsyncResult[int])
    assert_type(await add.aapply_async((1, 2)), AsyncResult[int])


app.conf.update(worker_concurrency=4)
app.conf.worker_pool = "solo"
app.autodiscover_tasks(["a", "b"])
app.autodiscover_tasks(lambda: ["a"])
app.send_task("by.name", args=[1], kwargs={"a": 2}, countdown=3)
app.add_periodic_task(10.0, add.s(1, 2), name="often")
current_app.send_task("by.name")
with Celery(set_as_current=False) as other:
    other.finalize()
