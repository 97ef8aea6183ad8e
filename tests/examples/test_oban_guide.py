"""The bookshop's programs, each run for real: a worker, a mail server, a web server."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest
from aiosmtpd.smtp import SMTP

from fix_client import state_as_it_was
from fix_postgres import _database
from helpers import eventually
from pgtasks import telemetry
from pgtasks.beat import Scheduler
from pgtasks.testing import all_enqueued

GUIDE = Path(__file__).parents[2] / "docs" / "examples" / "oban_guide"
QUEUES = "celery,mailers,webhooks,reports,low,critical"
MODULES = (
    "bookshop", "welcome_mail", "webhooks", "reminders", "daily_report", "data_sync",
    "orders", "invoices", "telemetry_logger",
)  # fmt: skip

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]


# ── the surroundings ────────────────────────────────────────────────────────────────────


class PostOffice:
    """A mail server; keeps what it takes."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        server = self._loop.create_server(lambda: SMTP(self), "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(server, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content)
        text = mail.get_payload(decode=True).decode()
        self.mails += [(to, str(mail["Subject"]), text) for to in envelope.rcpt_tos]
        return "250 OK"

    def to(self, address: str) -> list[tuple[str, str]]:
        return [(subject, text) for to, subject, text in self.mails if to == address]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        # Whoever is connected still has its say first.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Elsewhere:
    """Other people's web servers: a catalogue of books, and receivers of webhooks."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = {}
        self.received: list[tuple[str, str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                isbn = self.path.rpartition("/")[2]
                self.answer(200, {"title": f"The Book of {isbn}", "price": "9.90"})

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                key = self.headers["Idempotency-Key"]
                answers = outer.answers.get(self.path, [])
                code = answers.pop(0) if answers else 200
                outer.received.append((self.path, key, body))
                self.answer(code, {})

            def answer(self, code: int, content: Any) -> None:
                body = json.dumps(content).encode()
                self.send_response(code)
                if code == 429:
                    self.send_header("Retry-After", "0.2")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def modules_of_the_guide() -> Iterator[dict[str, ModuleType]]:
    """The programs, importable as they are when the worker runs, and forgotten afterwards."""
    hidden = {name: sys.modules.pop(name, None) for name in MODULES}
    sys.path.insert(0, str(GUIDE))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        # What one of them has attached in this process would be heard by other tests.
        telemetry.detach("bookshop")
        sys.path.remove(str(GUIDE))
        for name, module in hidden.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


class Shop(SimpleNamespace):
    """The programs by name, and what is around them."""

    def query(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, params)
            return cursor.fetchall() if cursor.description else []

    def job(self, task_id: str) -> dict[str, Any]:
        names = "state::text, attempt, result, errors, queue"
        query = f"select {names} from pgtasks.all_jobs where task_id = %s"
        [found] = self.query(query, task_id)
        return dict(
            zip(("state", "attempt", "result", "errors", "queue"), found, strict=True)
        )

    def over(self, task_id: str) -> dict[str, Any]:
        """The job, once it has ended."""
        ends = ("completed", "discarded", "cancelled")
        return eventually(
            lambda: (job := self.job(task_id))["state"] in ends and job,
            message=lambda: f"{self.job(task_id)}\n{self.log()}",
        )

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def ids_of(self, task: str) -> list[str]:
        query = "select task_id from pgtasks.all_jobs where task = %s order by id"
        return [id for (id,) in self.query(query, task)]

    def stock(self, isbn: str) -> int:
        [(stock,)] = self.query("select stock from bookshop.books where isbn = %s", isbn)
        return stock


@pytest.fixture(scope="module")
def shop(postgres: Any, template: str, tmp_path_factory: Any) -> Iterator[Shop]:
    """The bookshop, open: with tables, servers and a worker."""
    folder = tmp_path_factory.mktemp("bookshop")
    name = f"bookshop_{os.getpid()}"
    post_office, elsewhere = PostOffice(), Elsewhere()
    with _database(postgres, name, template):
        url = postgres.url_of(name)
        around = {
            "PGTASKS_DATABASE_URL": url,
            "BOOKSHOP_SMTP_PORT": str(post_office.port),
            "BOOKSHOP_CATALOGUE": elsewhere.url,
            "BOOKSHOP_STORAGE": str(folder / "storage"),
            "BOOKSHOP_FIRST_WAIT": "0.1",
        }
        with psycopg.connect(url) as connection:
            connection.execute((GUIDE / "schema.sql").read_bytes())
        log_file = folder / "worker.log"
        with environment(**around), state_as_it_was(), modules_of_the_guide() as modules:
            with log_file.open("wb") as log:
                worker = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "pgtasks", "-A", "bookshop"),
                        *("worker", "-l", "info", "-c", "2", "-Q", QUEUES),
                    ],
                    cwd=GUIDE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            shop = Shop(
                url=url,
                around=around,
                post_office=post_office,
                elsewhere=elsewhere,
                storage=folder / "storage",
                log_file=log_file,
                **modules,
            )
            try:
                eventually(lambda: "ready" in shop.log(), timeout=30, message=shop.log)
                yield shop
            finally:
                worker.terminate()
                worker.wait(20)
                modules["bookshop"].app.close()
                post_office.close()
                elsewhere.close()


@pytest.fixture
def customer(shop: Shop, request: pytest.FixtureRequest) -> tuple[int, str]:
    """A customer of this test's own: number and address."""
    address = f"{request.node.name.partition('[')[0].replace('_', '.')}@example.org"
    [(number,)] = shop.query(
        "insert into bookshop.customers (name, address) values ('Ann', %s) returning id",
        address,
    )
    return number, address


@pytest.fixture
def books(shop: Shop) -> list[str]:
    """Two books on the shelf, ten of each."""
    isbns = ["978-0", "978-1"]
    for isbn in isbns:
        shop.query(
            "insert into bookshop.books (isbn, title, price, stock) "
            "values (%s, 'A (thin) Book', 12.50, 10) "
            "on conflict (isbn) do update set stock = 10, title = excluded.title, "
            "price = excluded.price",
            isbn,
        )
    return isbns


# ── welcome mail ────────────────────────────────────────────────────────────────────────


def test_a_new_customer_gets_one_welcome_mail(shop: Shop) -> None:
    number = shop.welcome_mail.sign_up("Zoë", "zoe@example.org")

    [(subject, text)] = eventually(lambda: shop.post_office.to("zoe@example.org"))
    assert subject == "Welcome!"
    assert "Dear Zoë" in text
    job = shop.over(shop.ids_of("welcome_mail.welcome")[-1])
    assert (job["state"], job["queue"]) == ("completed", "mailers")
    assert number > 0


def test_a_customer_who_is_gone_costs_nothing(shop: Shop) -> None:
    before = len(shop.post_office.mails)

    job = shop.over(shop.welcome_mail.welcome.delay(-1).id)

    assert (job["state"], job["result"]) == ("completed", "no such customer")
    assert len(shop.post_office.mails) == before


# ── webhooks ────────────────────────────────────────────────────────────────────────────


def deliver(shop: Shop, path: str, *answers: int, **options: Any) -> dict[str, Any]:
    shop.elsewhere.answers[path] = list(answers)
    args = (shop.elsewhere.url + path, f"event of {path}", {"paid": True})
    return shop.over(shop.webhooks.deliver.apply_async(args, **options).id)


def calls(shop: Shop, path: str) -> list[tuple[str, Any]]:
    return [(key, body) for where, key, body in shop.elsewhere.received if where == path]


def test_a_webhook_is_delivered(shop: Shop) -> None:
    job = deliver(shop, "/fine")

    assert (job["state"], job["result"], job["attempt"]) == ("completed", 200, 1)
    assert calls(shop, "/fine") == [("event of /fine", {"paid": True})]


def test_at_429_it_waits_and_that_costs_no_attempt(shop: Shop) -> None:
    job = deliver(shop, "/busy", 429, 429, 429)

    assert (job["state"], job["attempt"], job["errors"]) == ("completed", 1, [])
    assert len(calls(shop, "/busy")) == 4


def test_at_404_it_gives_up_at_once(shop: Shop) -> None:
    job = deliver(shop, "/gone", 404)

    assert (job["state"], job["attempt"]) == ("discarded", 1)
    assert "endpoint not found" in job["errors"][-1]["message"]
    assert len(calls(shop, "/gone")) == 1


def test_at_500_it_is_tried_again_with_the_same_key(shop: Shop) -> None:
    job = deliver(shop, "/moody", 500, 503)

    assert (job["state"], job["attempt"]) == ("completed", 3)
    assert [error["attempt"] for error in job["errors"]] == [1, 2]
    assert len(set(key for key, _ in calls(shop, "/moody"))) == 1


def test_it_waits_longer_each_time_and_an_hour_at_most(shop: Shop) -> None:
    waits = [
        shop.webhooks.wait(attempt) / shop.webhooks.FIRST_WAIT for attempt in (1, 2, 3)
    ]

    assert waits == [1, 2, 4]
    assert shop.webhooks.wait(60) == 3600


# ── reminders ───────────────────────────────────────────────────────────────────────────


def test_a_reminder_comes_when_it_is_due(shop: Shop, customer: tuple[int, str]) -> None:
    number, address = customer

    result = shop.reminders.remind_in(0.5, number, "the reading")
    assert shop.job(result.id)["state"] in ("scheduled", "available")
    shop.over(result.id)

    [(_, text)] = shop.post_office.to(address)
    assert "the reading" in text
    [(early,)] = shop.query(
        "select attempted_at < inserted_at + interval '0.5 s' "
        "from pgtasks.finished_jobs where task_id = %s",
        result.id,
    )
    assert not early


def test_jobs_for_later_wait_as_rows(shop: Shop, customer: tuple[int, str]) -> None:
    number, _ = customer
    tomorrow = shop.reminders.remind_tomorrow(number, "the fair")
    soon = shop.reminders.clean_up_soon("old carts")

    waiting = {job.task_id: job for job in all_enqueued(app=shop.bookshop.app)}
    now = datetime.now(timezone.utc)

    assert waiting[tomorrow.id].state == waiting[soon.id].state == "scheduled"
    assert (
        abs(waiting[tomorrow.id].scheduled_at - now - timedelta(days=1)).total_seconds() < 5
    )
    assert (
        abs(waiting[soon.id].scheduled_at - now - timedelta(minutes=5)).total_seconds() < 5
    )
    assert waiting[soon.id].queue == "low"


# ── the daily report, and the schedule ──────────────────────────────────────────────────


def test_the_schedule_sends_the_report_at_three(shop: Shop, books: list[str]) -> None:
    scheduler = Scheduler(shop.bookshop.app, lazy=True)
    scheduler.setup_schedule()
    name = "the report of yesterday, each night at three"
    entry = scheduler.schedule[name]
    assert (entry.schedule.hour, entry.schedule.minute) == ({3}, {0})
    # As if it had been sent two days ago: so it is due now.
    entry.last_run_at = datetime.now(timezone.utc) - timedelta(days=2)
    before = len(shop.ids_of("daily_report.daily_report"))

    eventually(
        lambda: (scheduler.tick(), len(shop.ids_of("daily_report.daily_report")) > before)[
            1
        ]
    )
    job = shop.over(shop.ids_of("daily_report.daily_report")[-1])

    yesterday = datetime.now(timezone.utc).date() - timedelta(days=1)
    assert job["state"] == "completed"
    assert shop.query(
        "select day, orders from bookshop.reports where id = %s", job["result"]
    ) == [(yesterday, 0)]
    eventually(
        lambda: any(
            subject == f"The {yesterday}"
            for subject, _ in shop.post_office.to("staff@bookshop.example")
        )
    )


def test_the_report_of_a_day_is_written_once_however_often_it_is_asked_for(
    shop: Shop, customer: tuple[int, str], books: list[str]
) -> None:
    day = "2020-02-29"
    [(order,)] = shop.query(
        "insert into bookshop.orders (customer_id, placed_at) values (%s, %s) returning id",
        customer[0],
        f"{day} 12:00Z",
    )
    shop.query("insert into bookshop.order_lines values (%s, %s, 3)", order, books[0])

    first, second = (shop.over(shop.daily_report.daily_report.delay(day).id) for _ in "12")

    assert first["result"] == second["result"]
    rows = shop.query(
        "select orders, turnover::float8 from bookshop.reports where day = %s", day
    )
    assert rows == [(1, 37.5)]


def test_the_entries_of_the_schedule_name_tasks(shop: Shop) -> None:
    app = shop.bookshop.app
    entries = app.conf.beat_schedule

    assert len(entries) == 4
    assert {each["task"] for each in entries.values()} <= app.tasks.keys()
    greeting = entries["a good morning to the staff, on weekdays at nine"]
    assert greeting["schedule"].day_of_week == {1, 2, 3, 4, 5}
    job = shop.over(shop.reminders.greet_staff.delay(**greeting["kwargs"]).id)
    assert job["state"] == "completed"


# ── data sync ───────────────────────────────────────────────────────────────────────────


def test_a_book_is_copied_from_the_catalogue(shop: Shop) -> None:
    call = {"resource_type": "books", "resource_id": "978-7"}

    jobs = [shop.over(shop.data_sync.sync.delay(**call).id) for _ in range(2)]

    assert {job["result"] for job in jobs} == {"The Book of 978-7"}
    rows = shop.query("select title, stock from bookshop.books where isbn = '978-7'")
    assert rows == [("The Book of 978-7", 0)]


def test_a_book_that_is_being_looked_up_is_not_looked_up_beside(shop: Shop) -> None:
    call = {"resource_type": "books", "resource_id": "978-8"}
    calls = [{**call, "resource_id": number} for number in ("978-8", "978-9", "978-8")]

    first, other, again = shop.data_sync.sync.delay_many(calls)

    assert (first.id, again.conflict) == (again.id, True)
    assert {shop.over(job.id)["state"] for job in (first, other)} == {"completed"}


def test_all_books_are_looked_up_by_a_job_each(shop: Shop, books: list[str]) -> None:
    before = len(shop.ids_of("data_sync.sync"))

    job = shop.over(shop.data_sync.sync_all.delay().id)
    sent = shop.ids_of("data_sync.sync")[before:]

    assert job["result"] == len(sent) >= 2
    assert {shop.over(id)["state"] for id in sent} == {"completed"}


# ── orders ──────────────────────────────────────────────────────────────────────────────


def test_an_order_and_its_jobs_are_committed_together(
    shop: Shop, customer: tuple[int, str], books: list[str]
) -> None:
    number, address = customer

    order = shop.orders.place_order(number, {books[0]: 2, books[1]: 1})

    eventually(lambda: shop.post_office.to(address))
    assert [subject for subject, _ in shop.post_office.to(address)] == [f"Order {order}"]
    eventually(lambda: (shop.stock(books[0]), shop.stock(books[1])) == (8, 9))


def test_an_order_that_fails_leaves_no_job(
    shop: Shop, customer: tuple[int, str], books: list[str]
) -> None:
    before = Counter(shop.ids_of("orders.confirm") + shop.ids_of("orders.take_from_stock"))

    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        shop.orders.place_order(customer[0], {books[0]: 1, "no such book": 1})

    after = Counter(shop.ids_of("orders.confirm") + shop.ids_of("orders.take_from_stock"))
    assert after == before
    assert (
        shop.query("select from bookshop.orders where customer_id = %s", customer[0]) == []
    )
    assert shop.stock(books[0]) == 10


# ── telemetry ───────────────────────────────────────────────────────────────────────────


def test_the_log_tells_of_jobs_and_the_alert_of_those_that_matter(shop: Shop) -> None:
    deliver(shop, "/told")
    deliver(shop, "/broken", 500, queue="critical", max_attempts=1)

    def told() -> bool:
        log = shop.log()
        assert "job begins: webhooks.deliver in webhooks, attempt 1" in log
        assert "job ends: webhooks.deliver in webhooks, attempt 1: success, " in log
        assert "job failed: webhooks.deliver in critical, attempt 1: " in log
        assert "ALERT: webhooks.deliver failed" in log
        return True

    eventually(told)


def test_durations_are_events_of_the_shops_own(shop: Shop) -> None:
    from pgtasks import telemetry
    from pgtasks.testing import perform_job

    measured = []
    id = telemetry.attach(
        "bookshop.job.duration",
        lambda event, measurements, metadata, config: measured.append(
            (measurements, metadata)
        ),
    )
    perform_job(shop.reminders.clean_up, ("carts",))
    telemetry.detach(id)

    [(measurements, metadata)] = measured
    assert measurements["milliseconds"] > 0
    assert metadata == {"task": "reminders.clean_up", "queue": "celery"}


# ── tests ───────────────────────────────────────────────────────────────────────────────


def test_its_own_tests_pass(shop: Shop, postgres: Any, template: str) -> None:
    name = f"bookshop_tests_{os.getpid()}"
    with _database(postgres, name, template):
        url = postgres.url_of(name)
        with psycopg.connect(url) as connection:
            connection.execute((GUIDE / "schema.sql").read_bytes())
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("-c", os.devnull, "--rootdir", GUIDE, GUIDE / "test_welcome_mail.py"),
            ],
            cwd=GUIDE,
            env={**os.environ, "PGTASKS_DATABASE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


# ── invoices ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def order(shop: Shop, customer: tuple[int, str], books: list[str]) -> int:
    [(order,)] = shop.query(
        "insert into bookshop.orders (customer_id) values (%s) returning id", customer[0]
    )
    shop.query("insert into bookshop.order_lines values (%s, %s, 2)", order, books[0])
    return order


def test_an_invoice_is_stored_noted_and_mailed(
    shop: Shop, customer: tuple[int, str], order: int
) -> None:
    job = shop.over(shop.invoices.invoice.delay(order).id)

    [(file,)] = shop.query("select invoice_file from bookshop.orders where id = %s", order)
    assert (job["state"], job["result"], job["queue"]) == ("completed", file, "reports")
    pdf = (shop.storage / file).read_bytes()
    assert pdf.startswith(b"%PDF-1.4")
    assert b"2 x A \\(thin\\) Book: 25.00 EUR" in pdf
    [(_, text)] = eventually(lambda: shop.post_office.to(customer[1]))
    assert file in text


def test_a_second_one_is_drawn_up_only_if_that_is_wanted(
    shop: Shop, customer: tuple[int, str], order: int
) -> None:
    shop.over(shop.invoices.invoice.delay(order).id)
    eventually(lambda: len(shop.post_office.to(customer[1])) == 1)

    shop.over(shop.invoices.invoice.delay(order).id)
    shop.over(shop.invoices.invoice.delay(order, regenerate=True).id)

    eventually(lambda: len(shop.post_office.to(customer[1])) == 2)
    assert "has its invoice" in shop.log()


def test_an_order_that_does_not_exist_is_not_tried_again(shop: Shop) -> None:
    job = shop.over(shop.invoices.invoice.delay(-1).id)

    assert (job["state"], job["attempt"]) == ("discarded", 1)
    assert "there is no order -1" in job["errors"][-1]["message"]


def test_it_waits_as_the_accountant_wants(shop: Shop) -> None:
    assert [shop.invoices.wait(attempt) for attempt in range(1, 7)] == [
        60, 300, 900, 1800, 3600, 3600,
    ]  # fmt: skip
