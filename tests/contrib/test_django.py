"""A Django project, with its own processes: settings once read cannot be taken back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from helpers import eventually

pytest.importorskip("django")

PROJECT = Path(__file__).parent / "django_project"


class Project:
    """Runs programs of the project, and its workers."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.log = folder / "worker.log"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.run(
            "from django.db import connection",
            "from orders.models import Order",
            "with connection.schema_editor() as editor: editor.create_model(Order)",
        )

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "SHOP_DATABASE_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            **given,
        }

    def run(self, *lines: str, **environment: str) -> Any:
        """Run statements in the project; the answer is what they leave in ``answer``."""
        program = "\n".join(
            [
                "import django, json, shop",
                "django.setup()",
                "answer = None",
                *lines,
                "print(json.dumps(answer))",
            ]
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env=self.environment(environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        log = self.log.read_text() if self.log.exists() else ""
        assert done.returncode == 0, f"{done.stderr}\n{log}"
        return json.loads(done.stdout.splitlines()[-1])

    def start_worker(
        self, *options: str, first: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-m", "pgtasks", *first, "-A", "shop", "worker"),
                    *("-l", "info", *options),
                ],
                cwd=PROJECT,
                env=self.environment({"PYTHONUNBUFFERED": "1", **environment}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    def wait_until_ready(self, worker: subprocess.Popen[bytes]) -> None:
        def ready() -> bool:
            assert worker.poll() is None, f"it has ended:\n{self.log.read_text()}"
            return "ready" in self.log.read_text()

        eventually(ready, timeout=30)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement).fetchall()

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("drop table if exists orders_order")


@pytest.fixture
def project(database_url: str, tmp_path: Path) -> Iterator[Project]:
    project = Project(database_url, tmp_path)
    yield project
    project.close()


class TestAnApplication:
    def test_finds_its_database_its_settings_and_its_tasks_in_the_project(self, project):
        answer = project.run(
            "app = shop.celery_app",
            "app.loader.import_default_modules()",
            "answer = [app.conf.task_default_queue, app.database.url.rpartition('/')[2],"
            " sorted(name for name in app.tasks if name.startswith('orders'))]",
        )

        queue, database, tasks = answer
        assert queue == "shop"
        assert (
            database.partition("?")[0] == project.url.rpartition("/")[2].partition("?")[0]
        )
        assert tasks == ["orders.tasks.count", "orders.tasks.ship"]

    def test_keeps_the_task_class_that_the_program_chose(self, project):
        answer = project.run(
            "from pgtasks import Celery, Task",
            "class Own(Task): pass",
            "app = Celery(task_cls=Own, set_as_current=False)",
            "answer = [hasattr(app.Task, 'delay_on_commit'), issubclass(app.Task, Own)]",
        )

        assert answer == [False, True]


class TestSendingOnCommit:
    def jobs(self, project: Project) -> list[tuple[Any, ...]]:
        return project.query("select task from pgtasks.jobs order by id")

    def test_happens_after_the_commit_and_not_before(self, project):
        during = project.run(
            "from django.db import transaction",
            "from orders.tasks import count, ship",
            "with transaction.atomic():",
            "    count.delay_on_commit()",
            "    ship.apply_async_on_commit((1,), countdown=60)",
            "    from psycopg import connect",
            "    with connect(shop.celery_app.database.url) as other:",
            "        answer = other.execute('select count(*) from pgtasks.jobs').fetchone()",
        )

        assert during == [0]
        assert self.jobs(project) == [("orders.tasks.count",), ("orders.tasks.ship",)]

    def test_does_not_happen_after_a_rollback(self, project):
        project.run(
            "from django.db import transaction",
            "from orders.tasks import count",
            "try:",
            "    with transaction.atomic():",
            "        count.delay_on_commit()",
            "        raise KeyError",
            "except KeyError: pass",
        )

        assert self.jobs(project) == []

    def test_happens_at_once_outside_of_transactions(self, project):
        answer = project.run(
            "from orders.tasks import count", "answer = count.delay_on_commit()"
        )

        assert answer is None
        assert self.jobs(project) == [("orders.tasks.count",)]


class TestSendingInTheTransaction:
    def test_is_undone_with_it(self, project):
        project.run(
            "from django.db import connection, transaction",
            "from orders.models import Order",
            "from orders.tasks import count",
            "def place(fail):",
            "    with transaction.atomic():",
            "        Order.objects.create()",
            "        count.apply_async(connection=connection.connection)",
            "        if fail: raise KeyError",
            "place(fail=False)",
            "try: place(fail=True)",
            "except KeyError: pass",
        )

        assert project.query("select count(*) from orders_order") == [(1,)]
        assert project.query("select count(*) from pgtasks.jobs") == [(1,)]


class TestAWorker:
    @pytest.fixture(params=["prefork", "threads"])
    def pool(self, request: pytest.FixtureRequest) -> str:
        return request.param

    def test_gives_each_task_a_connection_of_its_own(self, project, pool):
        project.wait_until_ready(project.start_worker("-c", "1", "-P", pool))

        left_open = project.run(
            "from orders.models import Order",
            "from orders.tasks import ship",
            "ids = [Order.objects.create().pk for _ in range(2)]",
            "answer = [ship.delay(pk).get(timeout=30) for pk in ids]",
        )

        assert left_open == [False, False]
        orders = project.query("select state, backend from orders_order order by id")
        assert [state for state, _ in orders] == ["shipped", "shipped"]
        assert len({backend for _, backend in orders}) == 2
        eventually(lambda: self.connections(project) == 0)

    def test_keeps_connections_for_as_many_tasks_as_the_setting_allows(self, project):
        worker = project.start_worker("-c", "1", CELERY_DB_REUSE_MAX="10")
        project.wait_until_ready(worker)

        project.run(
            "from orders.models import Order",
            "from orders.tasks import ship",
            "ids = [Order.objects.create().pk for _ in range(3)]",
            "answer = [ship.delay(pk).get(timeout=30) for pk in ids]",
        )

        orders = project.query("select backend from orders_order order by id")
        assert len(set(orders)) == 1

    def test_tells_of_a_project_in_disorder_unless_it_is_told_not_to_look(self, project):
        project.wait_until_ready(project.start_worker(SHOP_IS_BROKEN="1"))
        assert "The shop is broken." in project.log.read_text()

        worker = project.start_worker(first=("--skip-checks",), SHOP_IS_BROKEN="1")
        project.wait_until_ready(worker)
        assert "The shop is broken." not in project.log.read_text()

    def test_has_children_that_leave_its_connections_alone(self, project):
        parents, childs = project.run(
            "import os",
            "from django.db import connection",
            "def backend():",
            "    with connection.cursor() as cursor:",
            "        cursor.execute('select pg_backend_pid()')",
            "        return cursor.fetchone()[0]",
            "fixup = shop.celery_app._fixups[0].worker_fixup",
            "before = backend()",
            "reading, writing = os.pipe()",
            "if os.fork() == 0:",
            "    fixup.on_worker_process_init()",
            "    os.write(writing, str(backend()).encode())",
            "    os._exit(0)",
            "os.wait()",
            "answer = [[before, backend()], int(os.read(reading, 20))]",
        )

        assert parents[0] == parents[1] != childs

    def connections(self, project: Project) -> int:
        ((count,),) = project.query(
            "select count(*) from pg_stat_activity where application_name = 'shop'"
        )
        return count
