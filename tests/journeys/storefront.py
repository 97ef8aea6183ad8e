"""A site in Flask whose tasks run in its application context, for any WSGI server."""

from __future__ import annotations

import os
import threading
from typing import Any

from flask import Flask, current_app, request

from pgtasks import Celery, Task, shared_task

PATIENCE = 60


def make_celery(site: Flask) -> Celery:
    """As programs for Celery do: a class of tasks that enters the context of the site."""

    class ContextTask(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with site.app_context():
                return self.run(*args, **kwargs)

    # The connections of the site are told from those of its worker by this name.
    celery = Celery(os.environ.get("WEB_NAME", site.name), task_cls=ContextTask)
    celery.config_from_object(site.config["CELERY"])
    celery.set_default()
    site.extensions["celery"] = celery
    return celery


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task
def greet() -> str:
    return f"Welcome to {current_app.config['TITLE']}"


site = Flask("storefront")
site.config.update(
    TITLE="the storefront",
    CELERY={
        "broker_url": os.environ["JOURNEY_URL"],
        "task_default_queue": "journey",
    },
)
celery = make_celery(site)


@site.get("/pid")
def pid() -> dict[str, Any]:
    return {"pid": os.getpid()}


@site.get("/add")
def add_and_wait() -> dict[str, Any]:
    x = request.args.get("x", type=int)
    found = add.delay(x, x).get(timeout=PATIENCE)
    return {"pid": os.getpid(), "sum": found}


@site.get("/send/<task_id>")
def send(task_id: str) -> dict[str, Any]:
    return {"id": add.apply_async((1, 1), task_id=task_id).id}


@site.get("/greet")
def greet_and_wait() -> dict[str, Any]:
    return {"greeting": greet.delay().get(timeout=PATIENCE)}


def use() -> None:
    """What a program may do before its server forks: send, wait, in several threads."""
    waiters = [
        threading.Thread(target=lambda: add.delay(1, 1).get(timeout=PATIENCE))
        for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        waiter.join()
    assert add.delay(2, 2).get(timeout=PATIENCE) == 4
    # And one that waits still: the thread that listens runs while the server forks.
    endless = celery.AsyncResult("sent by nobody")
    threading.Thread(target=endless.get, daemon=True).start()
    while not celery.notifier.wait_listening(PATIENCE):
        pass


if os.environ.get("WEB_USE"):
    use()
