"""Importing costs nothing to speak of: what is heavy is loaded when it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "amqp", "billiard", "click", "croniter", "django", "kombu", "multiprocessing",
    "psycopg", "psycopg_pool", "rich", "vine", "wrapt", "yaml",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_none_of_its_modules() -> None:
    ours = {name for name in loaded_by("import pgtasks") if name.startswith("pgtasks")}

    assert ours == {"pgtasks"}


@pytest.mark.parametrize(
    "code",
    [
        "import pgtasks",
        "from pgtasks import Celery, shared_task, current_app, Snooze",
        "from pgtasks import Celery\n"
        "app = Celery('x', broker='postgresql://nowhere/db')\n"
        "@app.task(queue='mail', max_retries=3)\n"
        "def add(x, y): return x + y\n"
        "app.conf.task_routes = {'x.*': 'other'}",
        "from pgtasks import Celery\n"
        "app = Celery('x', broker='memory://', backend='cache+memory://')\n"
        "@app.task\n"
        "def add(x, y): return x + y\n"
        "add.delay(1, [2, {'a': 'b'}])",
        "from pgtasks import exceptions, signals, states, schedules\n"
        "from pgtasks.utils.log import get_task_logger",
    ],
    ids=["package", "names", "definitions", "a call", "words"],
)
def test_a_program_that_uses_plain_values_loads_nothing_heavy(code: str) -> None:
    assert {name.partition(".")[0] for name in loaded_by(code)} & HEAVY == set()


def test_defining_tasks_does_not_load_what_running_them_may_need() -> None:
    modules = loaded_by("from pgtasks import Celery\nCelery('x').task(lambda: 1)")

    assert modules & {"asyncio", "ssl", "pgtasks.app.task"} == set()


def test_a_value_that_json_does_not_know_loads_kombu() -> None:
    modules = loaded_by(
        "import datetime\nfrom pgtasks import serialization\n"
        "serialization.dumps(datetime.date(2026, 1, 1))"
    )

    assert "kombu.utils.json" in modules
