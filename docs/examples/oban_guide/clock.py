"""Sends what is due by the schedule in bookshop.py. Run one of it, beside the workers."""

from bookshop import app

from pgtasks.beat import Service

if __name__ == "__main__":
    Service(app).start()
