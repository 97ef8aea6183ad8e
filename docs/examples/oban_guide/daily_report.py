"""Adds up a day, each night: by the schedule in bookshop.py, or for a day that is named."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from bookshop import app, connect, send_mail

STAFF = ["staff@bookshop.example"]


# The report and the job that mails it are written by one commit, which also ends this job:
# killed in the middle it runs again, and there is one report and one mail all the same.
@app.task(bind=True, transactional=True)
def daily_report(self, day: str | None = None) -> int:
    wanted = date.fromisoformat(day) if day else yesterday()
    [report_id] = self.connection.execute(
        """
        insert into bookshop.reports (day, orders, turnover)
        select %(day)s, count(distinct orders.id), coalesce(sum(count * price), 0)
          from bookshop.orders
          left join bookshop.order_lines on order_id = orders.id
          left join bookshop.books using (isbn)
         where placed_at >= %(day)s::timestamp at time zone 'UTC'
           and placed_at < (%(day)s + 1)::timestamp at time zone 'UTC'
            on conflict (day) do update
           set orders = excluded.orders, turnover = excluded.turnover
        returning id
        """,
        {"day": wanted},
    ).fetchone()
    mail_report.delay(report_id, STAFF)
    return report_id


@app.task(max_attempts=5)
def mail_report(report_id: int, recipients: list[str]) -> None:
    with connect() as connection:
        day, orders, turnover = connection.execute(
            "select day, orders, turnover from bookshop.reports where id = %s", [report_id]
        ).fetchone()
    for address in recipients:
        send_mail(address, f"The {day}", f"{orders} orders, {turnover} EUR\n")


def yesterday() -> date:
    return datetime.now(timezone.utc).date() - timedelta(days=1)
