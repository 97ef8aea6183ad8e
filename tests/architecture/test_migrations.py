"""Migrations are what they say: each leads there, back, and there again."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from pgtasks.storage import schema

FOLDER = Path(__file__).parents[2] / "migrations"
FOUND = schema.find()

# Everything that belongs to the schema, as text: what a migration makes, and how.
CATALOG = """
    select 'relation', relname, relkind::text || relpersistence::text
           || coalesce(array_to_string(reloptions, ','), '')
    from pg_class where relnamespace = 'pgtasks'::regnamespace
    union all
    select 'column', attrelid::regclass || '.' || attname, format_type(atttypid, atttypmod)
           || attnotnull::text || attidentity::text || coalesce(pg_get_expr(adbin, adrelid), '')
    from pg_attribute
    join pg_class on pg_class.oid = attrelid
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where relnamespace = 'pgtasks'::regnamespace and attnum > 0 and not attisdropped
    union all
    select 'index', indexname, indexdef from pg_indexes where schemaname = 'pgtasks'
    union all
    select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    from pg_constraint where connamespace = 'pgtasks'::regnamespace
    union all
    select 'function', proname, pg_get_functiondef(oid) || coalesce(proacl::text, '')
    from pg_proc where pronamespace = 'pgtasks'::regnamespace
    union all
    select 'view', viewname, definition from pg_views where schemaname = 'pgtasks'
    union all
    select 'type', typname, coalesce((select string_agg(enumlabel, ',' order by enumsortorder)
                                      from pg_enum where enumtypid = pg_type.oid), '')
    from pg_type where typnamespace = 'pgtasks'::regnamespace and typname not like '\\_%'
    union all
    select 'comment', coalesce(objoid::regclass::text, '') || objsubid, description
    from pg_description
    join pg_class on pg_class.oid = objoid
    where relnamespace = 'pgtasks'::regnamespace
    order by 1, 2, 3
"""


def catalog(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("select to_regnamespace('pgtasks')").fetchone()[0]:
            return []
        return connection.execute(CATALOG.encode()).fetchall()


@pytest.mark.parametrize("migration", FOUND, ids=str)
def test_a_migration_can_be_taken_back_and_made_again(
    fresh_database: str, migration: schema.Migration
) -> None:
    schema.apply(fresh_database, to=migration.version - 1)
    before = catalog(fresh_database)
    schema.apply(fresh_database, to=migration.version)
    after = catalog(fresh_database)

    schema.down(fresh_database, migration.version - 1)
    back = catalog(fresh_database)
    schema.apply(fresh_database, to=migration.version)

    assert before != after
    # The first one begins where there is nothing; ours is what stays until then.
    assert back == (before if migration.version > 1 else [])
    assert catalog(fresh_database) == after


def test_jobs_survive_the_migrations_that_came_after_them(fresh_database: str) -> None:
    schema.apply(fresh_database, to=1)
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("insert into pgtasks.jobs (task, task_id) values ('t', 'old')")

        schema.apply(fresh_database)
        schema.down(fresh_database, 1)
        schema.apply(fresh_database)

        rows = connection.execute("select task_id, state::text from pgtasks.jobs")
        assert rows.fetchall() == [("old", "available")]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sql")), ids=lambda path: path.name)
def test_a_migration_names_the_schema_of_everything(path: Path) -> None:
    # Else it would land in whatever schema the session looks into first.
    text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    text = re.sub(r"\b(add|drop) column\b", "", text)  # of a table that has been named
    made = re.findall(
        r"\b(?:create|alter|drop|comment on|insert into|update|delete from)\s+"
        r"(?:or replace\s+)?(?:unlogged\s+)?(?:unique\s+)?"
        r"(?:table|view|function|type|column|sequence|trigger)\s+(?:if (?:not )?exists\s+)?(\S+)",
        text,
    )
    on = re.findall(r"\bcreate (?:unique )?index\b[^;]*?\bon\s+(\S+)", text)

    assert made + on
    assert [name for name in made + on if not name.startswith("pgtasks.")] == []
