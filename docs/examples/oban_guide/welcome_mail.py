"""A mail to each new customer: a job with three attempts, and nobody to send it to maybe."""

from __future__ import annotations

from bookshop import app, connect, send_mail


@app.task(max_attempts=3, unique={"period": 300, "fields": ["task", "args", "queue"]})
def welcome(customer_id: int) -> str:
    with connect() as connection:
        customer = connection.execute(
            "select name, address from bookshop.customers where id = %s", [customer_id]
        ).fetchone()
    if customer is None:
        # Gone since the job was sent. There is nothing to do, which is no failure.
        return "no such customer"
    name, address = customer
    send_mail(address, "Welcome!", f"Dear {name},\n\nyour first order is sent for free.\n")
    return address


def sign_up(name: str, address: str) -> int:
    """Note a new customer; the mail is sent if, and only if, that is committed."""
    with connect() as connection:
        [customer_id] = connection.execute(
            "insert into bookshop.customers (name, address) values (%s, %s) returning id",
            [name, address],
        ).fetchone()
        # An id, not the customer: who reads it later reads what is true then.
        welcome.apply_async((customer_id,), connection=connection)
    return customer_id
