"""Keeps a copy of what an external service knows: one job for each thing to be looked up."""

from __future__ import annotations

import json
import os
from urllib.request import urlopen

from bookshop import app, connect

SERVICE = os.environ.get("BOOKSHOP_CATALOGUE", "http://127.0.0.1:8001")


@app.task(
    max_attempts=5,
    # However often it is asked for: once in five minutes, and not beside itself.
    unique={
        "period": 300,
        "fields": ["task", "kwargs"],
        "keys": ["resource_type", "resource_id"],
        "states": "incomplete",
    },
)
def sync(*, resource_type: str, resource_id: str) -> str:
    with urlopen(f"{SERVICE}/{resource_type}/{resource_id}", timeout=10) as response:
        book = json.load(response)
    # Written so that it may be written twice.
    with connect() as connection:
        connection.execute(
            """
            insert into bookshop.books (isbn, title, price, stock, synced_at)
            values (%(isbn)s, %(title)s, %(price)s, 0, now())
                on conflict (isbn) do update
               set title = excluded.title, price = excluded.price, synced_at = now()
            """,
            {"isbn": resource_id, "title": book["title"], "price": book["price"]},
        )
    return book["title"]


@app.task
def sync_all() -> int:
    with connect() as connection:
        isbns = [isbn for (isbn,) in connection.execute("select isbn from bookshop.books")]
    # All of them by one statement.
    sync.delay_many({"resource_type": "books", "resource_id": isbn} for isbn in isbns)
    return len(isbns)
