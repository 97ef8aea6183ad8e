"""A site in Starlette, for ASGI servers: what `storefront` does, in coroutines."""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pgtasks import Celery

PATIENCE = 60
celery = Celery(os.environ["WEB_NAME"], broker=os.environ["JOURNEY_URL"])
celery.conf.task_default_queue = "journey"


@celery.task(name="storefront.add")
def add(x: int, y: int) -> int:
    return x + y


def answer(**found: Any) -> JSONResponse:
    return JSONResponse({"pid": os.getpid(), **found})


async def add_and_wait(request: Request) -> JSONResponse:
    x = int(request.query_params["x"])
    result = await add.adelay(x, x)
    return answer(sum=await result.aget(timeout=PATIENCE))


async def add_without_await(request: Request) -> JSONResponse:
    """`delay` where a loop runs, in a view that was not written for one."""
    x = int(request.query_params["x"])
    result = add.delay(x, x)
    return answer(sum=await result.aget(timeout=PATIENCE))


def add_in_a_thread(request: Request) -> JSONResponse:
    """Starlette and FastAPI run views that are no coroutines in threads."""
    x = int(request.query_params["x"])
    return answer(sum=add.delay(x, x).get(timeout=PATIENCE))


async def pid(request: Request) -> JSONResponse:
    return answer()


site = Starlette(
    routes=[
        Route("/pid", pid),
        Route("/add", add_and_wait),
        Route("/plain", add_without_await),
        Route("/thread", add_in_a_thread),
    ]
)
