import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pgtasks.cli.main import main
from pgtasks.cli.schema import schema as command
from pgtasks.storage import schema
from pgtasks.storage.database import Database


def invoke(*words: str, app: Any = None, **options: Any) -> Result:
    return CliRunner().invoke(command, list(words), obj=SimpleNamespace(app=app), **options)


NAMES = [str(each) for each in schema.find()]


def test_the_life_of_a_schema(fresh_database: str) -> None:
    where = ("--database-url", fresh_database)

    assert invoke("verify", *where).exit_code == 1
    plan = invoke("plan", *where)
    apply = invoke("apply", *where)
    again = invoke("apply", *where)
    verify = invoke("verify", *where)
    down = invoke("down", *where, "--to", "0", "--yes")

    assert plan.output.splitlines() == [f"Would apply {name}" for name in NAMES]
    assert apply.output.splitlines() == [f"Applied {name}" for name in NAMES]
    assert again.output == "Nothing to apply: the schema is up to date.\n"
    assert (verify.exit_code, verify.output.count("\n")) == (0, 1)
    assert down.output.splitlines() == [f"Took back {name}" for name in reversed(NAMES)]


def test_answers_in_json(fresh_database: str) -> None:
    where = ("--database-url", fresh_database, "--json")

    plan = json.loads(invoke("plan", *where, "--to", "1").output)
    problems = json.loads(invoke("verify", *where).output)
    applied = json.loads(invoke("apply", *where).output)

    assert plan == [{"version": 1, "name": "jobs", "breaking": False}]
    assert [each["version"] for each in applied] == list(range(1, len(NAMES) + 1))
    assert {each["kind"] for each in problems} == {"missing"}
    assert json.loads(invoke("verify", *where).output) == []


def test_an_app_brings_its_database_and_its_schema(fresh_database: str) -> None:
    app = SimpleNamespace(
        database=Database(
            "postgresql://h/d", direct_url=fresh_database, schema="elsewhere"
        ),
        conf=SimpleNamespace(database_schema="elsewhere"),
    )

    result = invoke("apply", app=app)

    assert result.exit_code == 0, result.output
    assert schema.version(fresh_database, schema="elsewhere") == len(NAMES)
    assert "create schema if not exists elsewhere;" in invoke("print", app=app).output


def test_the_environment_names_the_database_of_last_resort(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTASKS_DATABASE_URL", fresh_database)

    assert CliRunner().invoke(command, ["apply"]).exit_code == 0
    assert schema.version(fresh_database) == len(NAMES)


def test_without_any_database_it_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGTASKS_DATABASE_URL", raising=False)

    result = invoke("apply")

    assert result.exit_code == 2
    assert "PGTASKS_DATABASE_URL" in result.output


def test_taking_back_asks_first(fresh_database: str) -> None:
    schema.apply(fresh_database)

    result = invoke("down", "--database-url", fresh_database, "--to", "0", input="n\n")

    assert result.exit_code == 1
    assert schema.version(fresh_database) == len(NAMES)


def test_an_error_is_one_line_without_a_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["schema", "apply", "--database-url", "mysql://u:sEcret77@h/d"])

    shown = capsys.readouterr().err
    assert status == 78
    assert shown.startswith("Error: The database URL")
    assert "sEcret77" not in shown


def test_differences_end_with_a_status(
    fresh_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", "verify", "--database-url", fresh_database]) == 1
    assert main(["schema", "apply", "--database-url", fresh_database]) == 0
    assert main(["schema", "verify", "--database-url", fresh_database]) == 0


def test_print_asks_no_database(tmp_path: Path) -> None:
    up = invoke("print")
    part = invoke("print", "--from", "1", "--to", "2", "--no-transactions")
    back = invoke("print", "--from", "2", "--to", "1", "--schema", "elsewhere")

    assert up.output == schema.script()
    assert part.output == schema.script(1, 2, transactions=False)
    assert back.output == schema.script(2, 1, schema="elsewhere")
