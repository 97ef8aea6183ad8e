"""What type checkers must refuse: the lines that end in ``# wrong``. Never run."""

from __future__ import annotations

from typing import Any

from pgtasks import Celery, shared_task

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
add.no_such_attribute_at_all  # noqa: B018 # wrong
