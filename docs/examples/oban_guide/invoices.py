"""The whole of it: an invoice is drawn up, stored, noted and mailed, once."""

from __future__ import annotations

import logging
import os
from datetime import datetime, timezone
from pathlib import Path

from bookshop import app, connect, send_mail

import pgtasks
from pgtasks import Discard

logger = logging.getLogger("bookshop.invoices")

STORAGE = Path(os.environ.get("BOOKSHOP_STORAGE", "storage"))
WAITS = (60, 300, 900, 1800)


def wait(attempt: int) -> float:
    """Longer each time: 1, 5, 15, 30 minutes, and an hour from then on."""
    return WAITS[attempt - 1] if attempt <= len(WAITS) else 3600


@app.task(
    bind=True,
    max_attempts=5,
    backoff=wait,
    # Whether to draw it up anew makes no other job of it.
    unique={"fields": ["task", "args"], "keys": ["order_id"], "states": "incomplete"},
)
def invoice(self, order_id: int, regenerate: bool = False) -> str:
    """Draw up the invoice of an order, unless it has one; ``regenerate`` does so anew."""
    logger.info("Invoice of order %d, attempt %d", order_id, self.request.attempt)
    order = read_order(order_id)
    if order is None:
        raise Discard(f"there is no order {order_id}")
    if order["invoice_file"] and not regenerate:
        logger.info("Order %d has its invoice: %s", order_id, order["invoice_file"])
        return order["invoice_file"]

    # Slow, and done outside of any transaction. A second attempt writes the same file.
    name = f"invoices/{order_id}/invoice-{datetime.now(timezone.utc):%Y-%m-%d}.pdf"
    path = STORAGE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pdf_of(order))

    # From here on it is all or nothing: the order has its invoice, the mail is going to be
    # sent, and this job is over.
    with connect() as connection, pgtasks.using(connection):
        connection.execute(
            "update bookshop.orders set invoice_file = %s, invoiced_at = now() where id = %s",
            [name, order_id],
        )
        mail_invoice.delay(order["address"], order_id, name)
        self.complete(connection, name)
    return name


@app.task(max_attempts=5)
def mail_invoice(address: str, order_id: int, name: str) -> None:
    link = f"https://bookshop.example/{name}"
    send_mail(address, f"Invoice of order {order_id}", f"It is ready: {link}\n")


def read_order(order_id: int) -> dict | None:
    with connect() as connection:
        found = connection.execute(
            "select name, address, invoice_file from bookshop.orders "
            "join bookshop.customers on customers.id = customer_id where orders.id = %s",
            [order_id],
        ).fetchone()
        if found is None:
            return None
        lines = connection.execute(
            "select title, count, count * price from bookshop.order_lines "
            "join bookshop.books using (isbn) where order_id = %s order by title",
            [order_id],
        ).fetchall()
    name, address, invoice_file = found
    return {
        "id": order_id,
        "name": name,
        "address": address,
        "invoice_file": invoice_file,
        "lines": lines,
    }


def pdf_of(order: dict) -> bytes:
    """A page in Helvetica, by hand: not a word of it needs a library."""
    rows = [f"Invoice of order {order['id']}", order["name"], ""]
    rows += [f"{count} x {title}: {price} EUR" for title, count, price in order["lines"]]
    rows += ["", f"Total: {sum(price for *_, price in order['lines'])} EUR"]
    shown = [row.encode("latin-1", "replace") for row in rows]
    shown = [row.replace(b"\\", b"\\\\").replace(b"(", rb"\(") for row in shown]
    text = b"\n".join(b"(%s) Tj T*" % row.replace(b")", rb"\)") for row in shown)
    page = b"BT /F1 12 Tf 18 TL 72 770 Td\n%s\nET" % text
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica "
        b"/Encoding /WinAnsiEncoding >>",
    ]
    file, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return file + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n"
    ) % (len(objects) + 1, table, len(objects) + 1, len(file))
