from django.db import connection

from orders.models import Order
from pgtasks import shared_task


@shared_task
def ship(order_id):
    """Answer whether a connection was left open by the task before."""
    was_open = connection.connection is not None
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        (backend,) = cursor.fetchone()
    Order.objects.filter(pk=order_id).update(state="shipped", backend=backend)
    return was_open


@shared_task
def count():
    return Order.objects.count()
