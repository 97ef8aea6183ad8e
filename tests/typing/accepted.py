"""What type checkers must accept, and what they must make of it. Never run."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from typing_extensions import ParamSpec, assert_type

from pgtasks import App, Celery, Signature, Task, current_app, shared_task
from pgtasks.app.task import Context
from pgtasks.canvas import chunks
from pgtasks.result import AsyncResult, EagerResult, ResultSet
from pgtasks.utils.einfo import ExceptionInfo

P = ParamSpec("P")
R = TypeVar("R")

tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
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


@app.task(unique={"period": 60, "keys": ["order"]}, replace={"scheduled": ["args"]})
def unique(order: int) -> int:
    return order


assert_type(unique.apply_async((1,), unique="until_executing").conflict, bool)
assert_type(unique.delay(order=1), AsyncResult[int])
unique.apply_async_many([(1,)], unique=True, replace_args=True)


@app.task(bind=True)
def tries(self: Task[..., Any], order: int) -> int:
    try:
        return order // 0
    except ZeroDivisionError as error:
        raise self.retry(exc=error, countdown=2**self.request.retries, max_retries=2)


@app.task(bind=True)
def replaced(self: Task[..., Any], order: int) -> Any:
    self.update_state(state="PROGRESS", meta={"done": 1})
    assert_type(self.request.retries, int)
    print(self.request.my_header)
    return self.replace(add.s(order))


class Logged(Task[P, R]):
    def on_failure(
        self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo
    ) -> None:
        print(self.request.id, self.request.delivery_info, exc)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        assert_type(self.request, Context)


class ByClass(Logged[[int], str]):
    name = "by.class"
    max_retries = None
    throws = (KeyError,)

    def run(self, x: int) -> str:
        return str(x)


@app.task(base=Logged, rate_limit="10/m", time_limit=60, acks_late=True)
def logged(x: int) -> str:
    return str(x)


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


@shared_task
async def shared_fetch(url: str) -> bytes:
    return url.encode()


@shared_task(bind=True, autoretry_for=(OSError,), retry_backoff=True)
async def shared_fetch_bound(self: Task[..., bytes], url: str, timeout: float = 1) -> bytes:
    if self.request.retries > 3:
        self.discard("enough")
    return url.encode()


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
assert_type(tries.delay(1), AsyncResult[int])
assert_type(replaced.delay(1), AsyncResult[Any])
assert_type(logged.delay(1), AsyncResult[str])
assert_type(ByClass().delay(1), AsyncResult[str])
assert_type(ByClass()(1), str)
assert_type(App is Celery, bool)

assert_type(add.s(1), Signature[int])
assert_type(add.s(), Signature[int])
assert_type(add.s(1).set(queue="x", countdown=3).delay().get(), int)
assert_type(add.si(1, y=2), Signature[int])
assert_type(add.signature((1,), {"y": 2}, countdown=10), Signature[int])
assert_type(bound.s(5), Signature[list[int]])
assert_type(bound.si(5, urgent=True), Signature[list[int]])
assert_type(fetch.s("url").apply_async(), AsyncResult[bytes])
assert_type(fetch_bound.si("url"), Signature[bytes])
assert_type(shared.si(1).delay(), AsyncResult[str])
assert_type(shared_fetch.delay("url"), AsyncResult[bytes])
assert_type(shared_fetch_bound.delay("url", timeout=3), AsyncResult[bytes])
assert_type(
    shared_bound.apply_async((1,), {}, link=add.s(), eta=tomorrow), AsyncResult[str]
)
assert_type((add.s(1) | greet.s()).delay(), AsyncResult[str])
assert_type(~add.si(1, 2), int)
assert_type(add.map([1, 2]).delay(), AsyncResult[list[Any]])
assert_type(add.starmap([(1, 2)]).delay().get(), list[Any])
assert_type(add.chunks([(1, 2), (3, 4)], 10), chunks)
assert_type(add.AsyncResult("id").get(), int)
assert_type(add.delay_many([(1, 2), {"x": 3}, add.s(4)]), ResultSet)
assert_type(add.name, Any)
add.apply_async(args=[1], kwargs={"y": 2}, link_error=[greet.si("you")], expires=60.0)


async def calls() -> None:
    assert_type(await add.adelay(1, 2), AsyncResult[int])
    assert_type(await add.aapply_async((1, 2)), AsyncResult[int])
    assert_type(await fetch.adelay("url"), AsyncResult[bytes])
    assert_type(await shared_fetch_bound.adelay("url"), AsyncResult[bytes])


app.conf.update(worker_concurrency=4)
app.conf.worker_pool = "solo"
app.autodiscover_tasks(["a", "b"])
app.autodiscover_tasks(lambda: ["a"])
app.send_task("by.name", args=[1], kwargs={"a": 2}, countdown=3)
app.add_periodic_task(10.0, add.s(1, 2), name="often")
current_app.send_task("by.name")
with Celery(set_as_current=False) as other:
    other.finalize()
