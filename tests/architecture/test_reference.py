"""The reference has everything that there is, and nothing that there is not."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import psycopg
import pytest

import pgtasks.dev
from pgtasks import exceptions, signals, states
from pgtasks.app.defaults import OPTIONS
from pgtasks.cli.schema import schema as schema_command
from pgtasks.storage import errors
from pgtasks.telemetry import EVENTS

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PACKAGE = ROOT / "pgtasks"
MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@cache
def rows(name: str, heading: str = "") -> dict[str, str]:
    """The lines of a page's tables by each name in their first column."""
    text = page(name)
    if heading:
        text = re.split(r"^## ", text.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[
            0
        ]
    found = {}
    for line in text.splitlines():
        first = re.match(r"\| (`[^|]*) \|", line)
        for each in re.findall(r"`([\w.]+)[^`]*`", first[1] if first else ""):
            found[each] = line
    return found


@cache
def words_of_the_code() -> frozenset[str]:
    """Names of attributes and whole texts in the package, but for the table of settings."""
    words: set[str] = set()
    for path in MODULES:
        if path != PACKAGE / "app" / "defaults.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    words.add(node.attr)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words.add(node.value)
    return frozenset(words)


# ── settings ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path[:])  # it makes the package importable
        spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_current(generator: ModuleType) -> None:
    stale = [
        path.name for path, text in generator.pages().items() if page(path.name) != text
    ]

    assert stale == [], "run: .venv/bin/python docs/generate.py"


def test_every_setting_is_documented() -> None:
    text = page("settings.md")

    assert [key for key in OPTIONS if f"`{key}`" not in text] == []


@pytest.mark.parametrize("key", OPTIONS)
def test_a_setting_that_nobody_reads_is_said_to_wait(
    generator: ModuleType, key: str
) -> None:
    idle = OPTIONS[key].doc.startswith("Accepted")
    if key not in words_of_the_code() and not idle:
        assert generator.waits_for(key), f"{key} has no effect: read it, or say so"


def test_what_settings_wait_for_has_not_come_yet(generator: ModuleType) -> None:
    unread = {key for key in OPTIONS if key not in words_of_the_code()}
    come = [
        prefix
        for prefix in generator.WAITING
        if not any(key == prefix or key.startswith(f"{prefix}_") for key in unread)
    ]

    assert come == []


def test_every_environment_variable_of_ours_is_documented() -> None:
    text = page("settings.md") + page("command-line.md")
    ours = {
        word
        for word in words_of_the_code()
        if re.fullmatch(r"(PGTASKS|C)_[A-Z_]+", word) and not word.endswith("_")
    }

    # This one passes from a process to the one that it becomes.
    assert {name for name in ours if f"`{name}`" not in text} == {"PGTASKS_DETACHED"}


# ── signals, exceptions, states ─────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", signals.__all__)
def test_a_signal_is_documented_with_its_arguments(name: str) -> None:
    row = rows("signals.md")[name]

    assert {
        argument
        for argument in getattr(signals, name).providing_args
        if f"`{argument}`" not in row
    } <= ({"pid", "exitcode"} if "not sent yet" in row else set())


@pytest.mark.parametrize("name", signals.__all__)
def test_a_signal_that_nobody_sends_is_said_to_wait(name: str) -> None:
    used = any(
        re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))
        for path in MODULES
        if path != PACKAGE / "signals.py"
    )
    waiting = page("signals.md").partition("## Not sent yet")[2]

    assert used != (f"`{name}`" in waiting or "not sent yet" in rows("signals.md")[name])


def test_every_exception_is_documented() -> None:
    known = {
        name
        for module in (exceptions, errors, pgtasks.dev)
        for name in module.__all__
        if inspect.isclass(getattr(module, name))
    }
    written = {name.rpartition(".")[2] for name in rows("exceptions.md")}

    assert known - written == set()
    assert written - known == set()


def test_every_state_is_documented_with_what_it_shows_as() -> None:
    jobs, tasks = rows("job-states.md", "Job states"), rows("job-states.md", "Task states")

    assert jobs.keys() == states.JOB_STATES
    assert tasks.keys() == states.ALL_STATES | {states.REJECTED, states.IGNORED}
    for state, shown in states.STATUS_OF_JOB_STATE.items():
        assert f"`{shown}`" in jobs[state]


# ── tables ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def catalog(postgres, template) -> dict[str, dict[str, str]]:
    """The columns of each table with their types."""
    found: dict[str, dict[str, str]] = {}
    with psycopg.connect(postgres.url_of(template), autocommit=True) as connection:
        for table, column, type in connection.execute(
            "select relname, attname, format_type(atttypid, atttypmod) from pg_class "
            "join pg_attribute on attrelid = pg_class.oid "
            "where relnamespace = 'pgtasks'::regnamespace and relkind in ('r', 'v', 'p') "
            "and attnum > 0 and not attisdropped"
        ):
            found.setdefault(table, {})[column] = type.removeprefix("pgtasks.")
        for table, index in connection.execute(
            "select tablename, indexname from pg_indexes where schemaname = 'pgtasks'"
        ):
            found[table][index] = "index"
        functions = connection.execute(
            "select proname from pg_proc where pronamespace = 'pgtasks'::regnamespace"
        )
        found["functions"] = {f"pgtasks.{name}": "" for (name,) in functions}
    return found


def test_every_table_is_documented_with_its_columns_and_indexes(
    catalog: dict[str, dict[str, str]],
) -> None:
    tables = catalog.keys() - {"functions"}
    headings = set(re.findall(r"^## `pgtasks\.(\w+)`$", page("tables.md"), re.MULTILINE))

    assert headings == tables
    for table in tables:
        written = rows("tables.md", f"`pgtasks.{table}`")
        assert written.keys() == catalog[table].keys(), table
        for column, type in catalog[table].items():
            assert type == "index" or f"| {type} |" in written[column], (table, column)


def test_every_function_and_channel_is_documented(
    catalog: dict[str, dict[str, str]],
) -> None:
    sql = [path.read_text() for path in (PACKAGE / "storage").glob("*.sql")]
    channels = set(re.findall(r"pg_notify\('([\w.]+)'", "".join(sql)))

    assert rows("tables.md", "Functions").keys() == catalog["functions"].keys()
    assert channels <= rows("tables.md", "Notifications and locks").keys()


# ── commands ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command", schema_command.commands.values(), ids=lambda each: each.name
)
def test_the_commands_of_the_tables_are_documented_with_their_options(
    command: click.Command,
) -> None:
    text = page("schema-commands.md")
    names = {name for param in command.params for name in param.opts if name[:2] == "--"}

    assert command.name in rows("schema-commands.md")
    # Those of the whole program are on the page of the command line.
    others = set(re.findall(r"`(--[\w-]+)`", page("command-line.md")))
    assert {name for name in names if f"`{name}" not in text} - others == set()


# ── rules ───────────────────────────────────────────────────────────────────────────────


def test_every_rule_that_the_code_names_is_explained() -> None:
    sources = [*MODULES, *PACKAGE.rglob("*.sql"), *(ROOT / "migrations").glob("*.sql")]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    rules = (ROOT / "docs" / "explanation" / "rules.md").read_text(encoding="utf-8")
    named = {int(number) for number in re.findall(r"\bR(\d{1,2})\b", text)}
    explained = [int(number) for number in re.findall(r"^\* \*\*R(\d+)\*\*", rules, re.M)]

    assert explained == list(range(1, len(explained) + 1))
    assert named <= set(explained)


# ── whatever the documentation names ────────────────────────────────────────────────────

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_of_pgtasks_exists(
    path: Path, catalog: dict[str, dict[str, str]]
) -> None:
    # Where a setting waits for something, its default may lead there.
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if "*Waits for" not in line)
    known = {f"pgtasks.{table}" for table in catalog} | catalog["functions"].keys()
    known |= rows("tables.md", "Notifications and locks").keys()
    known |= {each for name in EVENTS for each in (name, name.rpartition(".")[0])}
    # A dot before or a word behind it belongs to something else: .pgtasks, pgtasks.sql.
    named = set(re.findall(r"(?<![\w./-])pgtasks(?:\.[a-zA-Z_]\w*)+(?![\w-])", text))

    assert {name for name in named - known - {"pgtasks.sql"} if not exists(name)} == set()


def exists(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_make_targets_that_a_page_names_exist(path: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(
        r"(?:`|\$ )(?:\w+=\S+ )*make (\w+)", path.read_text(encoding="utf-8")
    )

    assert set(named) - targets == set()
