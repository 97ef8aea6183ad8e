"""The application in the container."""

import time

from pgtasks import Celery

app = Celery("shop")


@app.task(acks_late=True)
def pack(order: int) -> str:
    """Takes a while, so that one can see it end when its worker is told to stop."""
    time.sleep(5)
    return f"packed {order}"
