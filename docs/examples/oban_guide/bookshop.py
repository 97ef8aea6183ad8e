"""The application: a bookshop that leaves to jobs whatever takes its time.

export PGTASKS_DATABASE_URL=postgresql://localhost/bookshop
pgtasks schema apply && psql "$PGTASKS_DATABASE_URL" -f schema.sql
pgtasks -A bookshop worker -c 20 -Q celery,mailers:10,webhooks:5,reports:1,low:2,critical
pgtasks -A bookshop beat
"""

from __future__ import annotations

import os
import smtplib
from email.message import EmailMessage

import psycopg

from pgtasks import Celery
from pgtasks.schedules import crontab

app = Celery(
    "bookshop",
    include=[
        *("welcome_mail", "webhooks", "reminders", "daily_report", "data_sync", "orders"),
        *("invoices", "telemetry_logger"),
    ],
)
app.conf.update(
    # What is over is kept for a week.
    result_expires=7 * 24 * 3600,
    task_routes={
        "welcome_mail.*": {"queue": "mailers"},
        "orders.confirm": {"queue": "mailers"},
        "webhooks.*": {"queue": "webhooks"},
        "daily_report.*": {"queue": "reports"},
        "invoices.*": {"queue": "reports"},
    },
    timezone="UTC",
    beat_schedule={
        "the report of yesterday, each night at three": {
            "task": "daily_report.daily_report",
            "schedule": crontab(minute="0", hour="3"),
        },
        "all prices, each hour": {
            "task": "data_sync.sync_all",
            "schedule": crontab(minute="0"),
        },
        "a good morning to the staff, on weekdays at nine": {
            "task": "reminders.greet_staff",
            "schedule": crontab(minute="0", hour="9", day_of_week="mon-fri"),
            "kwargs": {"part_of_day": "morning"},
        },
        "clear up, on the first of the month": {
            "task": "reminders.clean_up",
            "schedule": crontab(minute="0", hour="0", day_of_month="1"),
            "args": ("old carts",),
        },
    },
)

SMTP_PORT = int(os.environ.get("BOOKSHOP_SMTP_PORT", "25"))


def connect() -> psycopg.Connection:
    """A connection to the shop's own tables, which are in the database of the jobs."""
    return psycopg.connect(os.environ["PGTASKS_DATABASE_URL"])


def send_mail(to: str, subject: str, text: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@bookshop.example", to, subject
    mail.set_content(text)
    with smtplib.SMTP("127.0.0.1", SMTP_PORT, timeout=10) as server:
        server.send_message(mail)
