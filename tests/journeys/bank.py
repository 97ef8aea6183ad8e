"""The application of the journeys about exactly once: an account, and deposits into it.

Each deposit adds to a balance and writes a receipt, and neither is safe to do twice.
"""

from __future__ import annotations

import os
import signal
import time

from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from pgtasks import Celery

URL = os.environ["JOURNEY_URL"]
ADD = "update public.account set balance = balance + {amount}"
RECEIPT = "insert into public.receipts values ('{id}')"

app = Celery("bank", broker=URL)
app.conf.update(
    worker_lease=float(os.environ.get("JOURNEY_LEASE", "3")),
    worker_heartbeat_interval=float(os.environ.get("JOURNEY_LEASE", "3")) / 4,
    task_default_queue="journey",
    # So many kills in a row would make a suspect of any job.
    worker_max_crashes=100,
    worker_max_lost=100,
)
engine = create_engine(
    URL.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool
)
Session = sessionmaker(engine)


def do(connection, statement: str, **words) -> None:
    statement = statement.format(**words)
    connection.execute(text(statement) if hasattr(connection, "get_bind") else statement)


def put(task, amount: int, pause: float) -> int:
    do(task.connection, RECEIPT, id=task.request.id)
    time.sleep(pause)
    do(task.connection, ADD, amount=amount)
    tell.delay(task.request.id)
    return amount


@app.task(bind=True, transactional=True)
def deposit(self, amount, pause=0.0):
    return put(self, amount, pause)


@app.task(bind=True, transactional=Session)
def deposit_by_session(self, amount, pause=0.0):
    return put(self, amount, pause)


@app.task(bind=True, transactional=True)
async def deposit_by_coroutine(self, amount, pause=0.0):
    import asyncio

    await self.connection.execute(RECEIPT.format(id=self.request.id))
    await asyncio.sleep(pause)
    await self.connection.execute(ADD.format(amount=amount))
    await tell.adelay(self.request.id)
    return amount


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def complete_by_hand(self, amount, pause=0.0):
    with Session() as session, session.begin():
        do(session, RECEIPT, id=self.request.id)
        time.sleep(pause)
        do(session, ADD, amount=amount)
        self.complete(session, amount)
    return "ignored"


@app.task(bind=True, transactional=True)
def deposit_and_die(self, amount):
    """Take the process down at the first attempt, behind everything that it does."""
    do(self.connection, RECEIPT, id=self.request.id)
    do(self.connection, ADD, amount=amount)
    if self.request.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return amount


@app.task(bind=True, transactional=True)
def tell(self, id):
    do(self.connection, "insert into public.told values ('{id}')", id=id)


@app.task(bind=True, transactional=True, ignore_result=False)
def sum_up(self, amounts):
    do(self.connection, ADD, amount=sum(amounts))
    return sum(amounts)


@app.task(bind=True, transactional=True, time_limit=0.5)
def deposit_too_slowly(self, amount):
    do(self.connection, ADD, amount=amount)
    do(self.connection, RECEIPT, id=self.request.id)
    time.sleep(60)
