"""SQL stands in named statements, each is used once, and none is put together from pieces."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgtasks.storage
from pgtasks.storage.query import load

STORAGE = Path(pgtasks.storage.__file__).parent
MODULES = {path.stem: path for path in sorted(STORAGE.glob("*.py"))}
FILES = sorted(path.name for path in STORAGE.glob("*.sql"))

# `pgtasks schema print` writes into its script what `apply` runs.
USED_TWICE = {("schema.sql", name) for name in ("bookkeeping", "record", "forget")}

# Where SQL may be put together after all, and why.
ASSEMBLED = {
    "migrations.py: script": "It prints: there is no server to send parameters to, and the "
    "schema's name has been checked.",
}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def sql_of_modules() -> dict[str, str]:
    """Which module has the statements of which file, loaded by itself or by another."""
    loaded, borrowed = {}, {}
    for name, path in MODULES.items():
        for node in ast.walk(tree(path)):
            match node:
                case ast.Assign(
                    targets=[ast.Name("SQL")],
                    value=ast.Call(ast.Name("load"), [ast.Constant(str(file))]),
                ):
                    loaded[name] = file
                case ast.ImportFrom(module=str(home), names=names):
                    if any(each.name == "SQL" for each in names):
                        borrowed[name] = home.rpartition(".")[2]
    return {**loaded, **{name: loaded[home] for name, home in borrowed.items()}}


HOMES = sql_of_modules()


def uses(module: str) -> list[str]:
    found = []
    for node in ast.walk(tree(MODULES[module])):
        match node:
            case ast.Subscript(ast.Name("SQL"), ast.Constant(str(name))):
                found.append(name)
            case ast.Subscript(ast.Name("SQL")):
                pytest.fail(f"{module}.py:{node.lineno}: name the statement in the code")
    return found


@pytest.mark.parametrize("file", FILES)
def test_each_statement_is_used_once_and_each_use_exists(file: str) -> None:
    used = Counter(
        name for module, home in HOMES.items() if home == file for name in uses(module)
    )
    expected = {name: 1 + ((file, name) in USED_TWICE) for name in load(file)}

    assert dict(used) == expected


@pytest.mark.parametrize("file", FILES)
def test_no_name_stands_twice_in_a_file(file: str) -> None:
    names = re.findall(r"^-- name: *(\w+)", (STORAGE / file).read_text(), re.MULTILINE)

    assert len(names) == len(set(names))
    assert names == list(load(file))


# ── assembly ────────────────────────────────────────────────────────────────────────────

_SQL = re.compile(
    r"\s*(select|insert\s+into|update\s+[\w{]|delete\s+from|with\s+[\w{]+\s+as|create\s|drop\s|alter\s"
    r"|truncate\s|grant\s|revoke\s|listen\b|unlisten\b|notify\b|set\s+\w|copy\s|explain\s)",
    re.IGNORECASE,
)


def assembled(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Where texts that begin like SQL are formatted, joined or added to: function, line."""
    for function in ast.walk(module):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)):
            continue
        for node in _own_nodes(function):
            match node:
                case ast.JoinedStr(values=[ast.Constant(text), *rest]) if rest:
                    pass
                case ast.BinOp(ast.Constant(text), ast.Mod() | ast.Add()):
                    pass
                case ast.Call(ast.Attribute(ast.Constant(text), "format" | "join")):
                    pass
                case _:
                    continue
            if isinstance(text, str | bytes) and _SQL.match(
                text if isinstance(text, str) else text.decode()
            ):
                yield getattr(function, "name", "the module"), node.lineno


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from _own_nodes(child)


@pytest.mark.parametrize("name", MODULES)
def test_no_sql_is_put_together_in_the_storage(name: str) -> None:
    found = {
        f"{name}.py: {function}": line for function, line in assembled(tree(MODULES[name]))
    }

    assert {where: found[where] for where in found.keys() - ASSEMBLED.keys()} == {}


def test_what_may_put_sql_together_still_does() -> None:
    found = {
        f"{name}.py: {function}"
        for name, path in MODULES.items()
        for function, _ in assembled(tree(path))
    }

    assert ASSEMBLED.keys() <= found


@pytest.mark.parametrize(
    "code",
    [
        "session.execute(f'listen {channel}')",
        "session.execute('select * from ' + table)",
        "session.execute('delete from %s' % table)",
        "session.execute('update {} set x = 1'.format(table))",
        "session.execute(f'''\n  with a as (select {x}) select * from a''')",
    ],
)
def test_the_check_sees_how_people_put_sql_together(code: str) -> None:
    assert len(list(assembled(ast.parse(f"def f():\n  {code}")))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError(f'Have its owner run: create schema {name}')",
        "session.execute(sql.SQL('listen {}').format(sql.Identifier(channel)))",
        "session.execute('select 1')",
        "text = ', '.join(names)",
    ],
)
def test_the_check_leaves_sentences_and_identifiers_alone(code: str) -> None:
    assert list(assembled(ast.parse(f"def f():\n  {code}"))) == []
