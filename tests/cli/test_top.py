"""``pgtasks top``: the screen, driven by its keys, on a PostgreSQL with jobs in it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from pgtasks.cli.invocation import Invocation
from pgtasks.cli.top.reading import read, words_of
from pgtasks.testing import drain_queue


@pytest.fixture
def shop(app):
    """Two queues with jobs: waiting, for later, failed, cancelled."""
    for number in range(3):
        app.send_task("tests.add", (number, 1), task_id=f"mail-{number}", queue="mail")
    app.send_task("tests.import", task_id="import", queue="imports", tags=["b2b"])
    app.send_task("tests.add", task_id="later", queue="mail", countdown=3600)
    return app


def lines(result):
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


# ── without a screen ────────────────────────────────────────────────────────────────────


def test_without_a_terminal_it_prints_what_there_is(run, shop):
    shown = lines(run("top", "--tab", "waiting"))

    assert shown[0].split()[:3] == ["WAITING", "RUNNING", "LATER"]
    assert shown[1].split() == ["4", "0", "1", "0.0", "0.0"]
    assert any(line.split()[:4] == ["mail", "no", "worker", "3"] for line in shown)
    assert sum(line.startswith("mail-") for line in shown) == 3


def test_programs_get_json(run, shop):
    found = json.loads(
        run("top", "--json", "--tab", "waiting", "-f", "queue:imports").stdout
    )

    assert (found["waiting"], found["later"]) == (4, 1)
    assert [each["name"] for each in found["queues"]] == ["imports", "mail"]
    assert [each["task_id"] for each in found["jobs"]] == ["import"]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("import", {"import"}),
        ("queue:mail add", {"mail-0", "mail-1", "mail-2", "later"}),
        ("tag:b2b", {"import"}),
        ("queue:mail queue:imports", {"mail-0", "mail-1", "mail-2", "later", "import"}),
        ("queue:", {"mail-0", "mail-1", "mail-2", "later", "import"}),
        ("worker:nobody", set()),
        ("nothing", set()),
    ],
)
def test_jobs_are_filtered_by_words(shop, words, ids):
    assert {job.task_id for job in read(shop, "waiting", words).jobs} == ids


def test_a_word_that_cannot_be_looked_for_is_refused(run):
    with pytest.raises(ValueError, match="jobs can be looked for by queue, task"):
        words_of("colour:red")
    assert run("top", "-f", "colour:red").exit_code == 2


def test_without_textual_it_says_what_to_install(run, shop, monkeypatch):
    from pgtasks.cli.output import Output

    monkeypatch.setattr(Output, "terminal", True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for name in [each for each in sys.modules if each.partition(".")[0] == "textual"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("screen", "dialogs", "widgets"):
        monkeypatch.delitem(sys.modules, f"pgtasks.cli.top.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "textual", None)
    from pgtasks.cli.invocation import Failure
    from pgtasks.cli.top.command import _watch

    with pytest.raises(Failure, match=r"pip install 'pgtasks\[top\]'"):
        _watch(Invocation(named=shop), shop)


def test_textual_is_imported_for_the_screen_alone():
    check = (
        "import sys, click; from pgtasks.cli.main import program; "
        "program.get_command(click.Context(program), 'top'); "
        "print('textual' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)

    assert done.stdout == "False\n", done.stderr


# ── the screen ──────────────────────────────────────────────────────────────────────────


async def until(pilot, predicate, timeout=30):
    """Let the screen work until something holds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, pilot.app.export_screenshot()[-2000:]
        await pilot.pause(0.02)


def drive(app, script, *, size=(140, 40), **options):
    """Open the screen, wait for what it shows first, and run a script on it."""
    from pgtasks.cli.top.screen import Top

    async def main():
        screen = Top(app, **{"interval": 0.2, "tab": "waiting", **options})
        async with screen.run_test(size=size) as pilot:
            await until(pilot, lambda: screen.snapshot is not None)
            await script(screen, pilot)

    asyncio.run(main())


def table(screen, name):
    """The plain texts of a table, a tuple for each row."""
    from pgtasks.cli.top.widgets import Rows

    rows = screen.query_one(f"#{name}", Rows)
    return [
        tuple(cell.plain for cell in rows.get_row_at(place))
        for place in range(rows.row_count)
    ]


def ids(screen, name="waiting-jobs"):
    return [row[-1] for row in table(screen, name)]


def test_it_shows_queues_numbers_and_jobs_and_follows_them(shop):
    async def script(screen, pilot):
        assert [row[:3] for row in table(screen, "queues")] == [
            ("imports", "○ no worker", "1"), ("mail", "○ no worker", "3")
        ]  # fmt: skip
        assert screen.query_one("#waiting-tile").number == 4
        assert set(ids(screen)) == {"mail-0", "mail-1", "mail-2", "import", "later"}
        shop.jobs.delete("import")
        await until(pilot, lambda: "import" not in ids(screen))
        assert screen.query_one("#waiting-tile").number == 3

    drive(shop, script)


def test_the_cursor_stays_on_its_job(shop):
    async def script(screen, pilot):
        rows = screen.query_one("#waiting-jobs")
        rows.move_cursor(row=ids(screen).index("mail-1"))
        chosen = rows.chosen
        shop.jobs.delete("mail-0")
        await until(pilot, lambda: "mail-0" not in ids(screen))
        assert rows.chosen == chosen
        assert chosen.startswith("mail-1 ")

    drive(shop, script)


def test_a_job_is_revoked_after_a_question(shop):
    async def script(screen, pilot):
        screen.query_one("#waiting-jobs").move_cursor(row=ids(screen).index("mail-2"))
        await pilot.press("k")
        await pilot.press("n")
        await pilot.press("k")
        await pilot.press("y")
        await until(pilot, lambda: "mail-2" not in ids(screen))

    drive(shop, script)
    assert shop.jobs.get("mail-2").state == "cancelled"
    assert shop.jobs.count(state="cancelled") == 1


def test_a_failed_job_is_read_about_and_retried(shop):
    @shop.task(name="tests.import", shared=False)
    def fail():
        raise OSError("no [route] to host")

    drain_queue(shop, "imports")

    async def script(screen, pilot):
        await pilot.press("2")
        await until(pilot, lambda: ids(screen, "failing-jobs") == ["import"])
        assert table(screen, "failing-jobs")[0][1:4] == (
            "● discarded", "tests.import", "OSError: no [route] to host"
        )  # fmt: skip
        await pilot.press("k")  # which is too late, and says so
        await pilot.press("enter")
        await until(pilot, lambda: len(screen.screen_stack) == 2)
        page = str(screen.screen.query_one("Static").visual)
        assert "no [route] to host" in page
        assert "Traceback" in page
        await pilot.press("r")
        await until(pilot, lambda: shop.jobs.get("import").state == "available")

    drive(shop, script)


def test_a_queue_is_paused_and_resumed(shop):
    async def script(screen, pilot):
        queues = screen.query_one("#queues")
        queues.move_cursor(row=1)
        await pilot.press("p")
        await until(pilot, lambda: table(screen, "queues")[1][1] == "‖ paused")
        assert shop.queues.check("mail").paused
        assert not shop.queues.check("imports").paused
        await pilot.press("p")
        await until(pilot, lambda: table(screen, "queues")[1][1] != "‖ paused")

    drive(shop, script)
    assert not shop.queues.check("mail").paused


def test_it_is_filtered_by_words_and_by_the_chosen_queue(shop):
    async def script(screen, pilot):
        await pilot.press("slash", *"import", "enter")
        await until(pilot, lambda: ids(screen) == ["import"])
        await pilot.press("escape")
        await until(pilot, lambda: len(ids(screen)) == 5)
        await pilot.press("slash", *"colour:red", "enter")
        await pilot.pause()
        assert len(ids(screen)) == 5
        await pilot.press("escape")
        screen.query_one("#queues").focus()
        await pilot.press("enter")
        await until(pilot, lambda: ids(screen) == ["import"])

    drive(shop, script)


def test_it_freezes_and_explains_its_keys(shop):
    async def script(screen, pilot):
        await pilot.press("space")
        await until(pilot, lambda: not screen._reading)
        shop.jobs.delete("import")
        await pilot.press("question_mark")
        await until(pilot, lambda: len(screen.screen_stack) == 2)
        assert "freeze the screen" in str(screen.screen.query_one("Static").visual)
        await pilot.press("escape")
        assert "import" in ids(screen)
        await pilot.press("space")
        await until(pilot, lambda: "import" not in ids(screen))

    drive(shop, script)


def test_an_outage_is_said_and_outlived(shop, monkeypatch):
    from pgtasks.cli.top import screen as module
    from pgtasks.storage.errors import StorageUnavailable

    away = []

    def read_or_fail(*arguments):
        if away:
            raise StorageUnavailable("The server [is] away.")
        return read(*arguments)

    monkeypatch.setattr(module, "read", read_or_fail)

    async def script(screen, pilot):
        def when():
            return str(screen.query_one("#when").visual)

        away.append(True)
        await until(pilot, lambda: "The server [is] away." in when())
        assert len(ids(screen)) == 5
        away.clear()
        await until(pilot, lambda: "every" in when())

    drive(shop, script)


def test_names_from_the_tables_are_neither_markup_nor_control(app):
    app.send_task("tests.[bold]x", task_id="odd", queue="[red]\x1b[31m")

    async def script(screen, pilot):
        assert table(screen, "queues")[0][0] == r"[red]\x1b[31m"
        assert table(screen, "waiting-jobs")[0][2] == "tests.[bold]x"

    drive(app, script)


def test_a_small_terminal_leaves_the_large_digits_out(shop):
    async def script(screen, pilot):
        assert screen.screen.has_class("short")
        assert not screen.query_one("#waiting-tile .tile-digits").display

    drive(shop, script, size=(80, 24))


def test_workers_and_what_they_run_are_shown(live):
    gate = live.folder / "gate"
    result = live.app.send_task("tasks.wait_for", (str(gate),))

    async def script(screen, pilot):
        try:
            await until(pilot, lambda: table(screen, "running-jobs"))
            [row] = table(screen, "running-jobs")
            assert (row[1], row[3], row[4]) == ("tasks.wait_for", "celery", "live@here")

            # Each table is read by a question of its own, one after the other.
            def worker():
                [row] = table(screen, "workers")
                return row[0], row[1], row[2].rpartition(" ")[2]

            await until(pilot, lambda: worker() == ("live@here", "● online", "1/2"))
            screen.query_one("#workers").focus()
            await pilot.press("enter")
            await until(pilot, lambda: screen._wanted == "worker:live@here")
        finally:
            gate.touch()

    drive(live.app, script, tab="running")
    assert result.get(timeout=30) == "seen"


def test_on_a_terminal_it_is_a_screen_and_q_ends_it(database_url):
    near, far = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pgtasks", "-b", database_url, "top"],
        stdin=far,
        stdout=far,
        stderr=far,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    os.close(far)
    shown = b""
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([near], [], [], 0.1)[0]:
                try:
                    shown += os.read(near, 65536)
                except OSError:
                    break  # It has ended.
            if b"Freeze" in shown:
                os.write(near, b"q")
        assert process.wait(30) == 0, shown[-2000:]
    finally:
        process.kill()
        process.wait()
        os.close(near)
    assert b"pgtasks top" in shown
