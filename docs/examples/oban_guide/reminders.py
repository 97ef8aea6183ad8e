"""Jobs for later: in an hour, at a date, in a queue of one's own choice."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from bookshop import app, connect, send_mail


@app.task
def remind(customer_id: int, of: str) -> bool:
    with connect() as connection:
        found = connection.execute(
            "select address from bookshop.customers where id = %s", [customer_id]
        ).fetchone()
    if found is not None:
        send_mail(found[0], "A reminder", f"You wanted to be reminded of {of}.\n")
    return found is not None


@app.task
def clean_up(what: str) -> str:
    return f"cleared up {what}"


@app.task
def greet_staff(part_of_day: str) -> None:
    send_mail("staff@bookshop.example", f"Good {part_of_day}!", "Coffee is ready.\n")


def remind_in(seconds: float, customer_id: int, of: str):
    return remind.apply_async((customer_id, of), schedule_in=seconds)


def remind_tomorrow(customer_id: int, of: str):
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    return remind.apply_async((customer_id, of), scheduled_at=tomorrow)


def clean_up_soon(what: str):
    # Where it runs is the caller's choice, whatever the task's own queue is.
    return clean_up.apply_async((what,), schedule_in=300, queue="low")
