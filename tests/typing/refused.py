"""What type checkers must refuse: the lines that end in ``# wrong``. Never run."""

from __future__ import annotations

from typing import Any

from pgtasks import Celery, Task, shared_task

app = Celery("typed", broker="memory://")


@app.task
def add(x: int, y: int = 2) -> int:
    return x + y


@app.task(bind=True)
def bound(self: Any, order: int) -> str:
    return str(order)


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@shared_task(bind=True)
def shared(self: Any, x: int) -> str:
    return str(x)


@shared_task
async def shared_fetch(url: str) -> bytes:
    return url.encode()


@app.task(bind=True)
def asks(self: Task[..., Any], order: int) -> int:
    self.retry(countdown="3")  # wrong
    self.retry(max_retries="3")  # wrong
    self.retry(exc="failed")  # wrong
    self.update_state(state=5)  # wrong
    self.request.retries = "many"  # wrong
    if order:
        self.snooze("soon")  # wrong
    return str(order)  # wrong


class Wrong(Task[[int], str]):
    def run(self, x: str) -> str:  # wrong
        return x


async def calls() -> None:
    await add.adelay("x")  # wrong
    await add.aapply_async(5)  # wrong
    awaited: str = await (await add.adelay(1)).aget()  # wrong
    print(awaited)


add.delay(1, "x")  # wrong
add.delay()  # wrong
add.delay(1, 2, 3)  # wrong
add.delay(1, z=3)  # wrong
bound.delay("5")  # wrong
bound.delay(None, 5)  # wrong
shared.delay("x")  # wrong
fetch.delay(5)  # wrong
length: str = add.delay(1).get()  # wrong
content: str = fetch.delay("url").get()  # wrong
app.task(5)  # wrong
add.apply_async(5)  # wrong
add.apply_async((1,), [2])  # wrong
add.apply_async((1,), task_id=5)  # wrong
add.apply_async((1,), shadow=5)  # wrong
number: str = add.apply_async((1,)).get()  # wrong
eager: str = add.apply((1,)).get()  # wrong
signed: str = add.s(1).delay().get()  # wrong
chained: str = (shared.s(1) | add.s()).delay().get()  # wrong
at_once: str = ~add.si(1, 2)  # wrong
add.chunks([(1, 2)])  # wrong
add.map(5)  # wrong
add.si()  # wrong
add.si("x")  # wrong
add.si(1, z=2)  # wrong
bound.si("5")  # wrong
shared.si("x")  # wrong
text: int = shared.s(1).apply_async().get()  # wrong
bound(None, 5)  # wrong
add("x")  # wrong
add.delay_many(5)  # wrong
shared_fetch.delay(5)  # wrong
data: str = shared_fetch.delay("url").get()  # wrong
add.no_such_attribute_at_all  # noqa: B018 # wrong
