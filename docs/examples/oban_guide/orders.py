"""An order and the jobs about it: written by one transaction, or not at all."""

from __future__ import annotations

from bookshop import app, connect, send_mail

import pgtasks


def place_order(customer_id: int, items: dict[str, int]) -> int:
    """Note an order of some books, each by its ISBN, and have it seen to."""
    with connect() as connection, pgtasks.using(connection):
        [order_id] = connection.execute(
            "insert into bookshop.orders (customer_id) values (%s) returning id",
            [customer_id],
        ).fetchone()
        confirm.delay(order_id)
        take_from_stock.delay(order_id, items)
        # A book that we do not have fails here, and with it all of this.
        connection.cursor().executemany(
            "insert into bookshop.order_lines (order_id, isbn, count) values (%s, %s, %s)",
            [(order_id, isbn, count) for isbn, count in items.items()],
        )
    return order_id


@app.task(max_attempts=5)
def confirm(order_id: int) -> None:
    with connect() as connection:
        name, address = connection.execute(
            "select name, address from bookshop.orders "
            "join bookshop.customers on customers.id = customer_id where orders.id = %s",
            [order_id],
        ).fetchone()
    send_mail(
        address, f"Order {order_id}", f"Dear {name},\n\nyour books are on their way.\n"
    )


# To take a book off the shelf twice would be wrong, and not at all would be wrong too.
@app.task(bind=True, transactional=True)
def take_from_stock(self, order_id: int, items: dict[str, int]) -> None:
    for isbn, count in sorted(items.items()):
        self.connection.execute(
            "update bookshop.books set stock = stock - %s where isbn = %s", [count, isbn]
        )
