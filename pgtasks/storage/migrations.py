"""Migration files: numbered SQL, read, ordered, cut into statements, printed as a script.

A file is plain SQL with the literal schema ``pgtasks.`` and, at its top, at most these
lines for us::

    --! no-transaction     statements run one by one (create index concurrently)
    --! breaking           programs older than this file must not run after it
    --! needs 14           the oldest major version of PostgreSQL that takes it
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.storage.errors import StorageMisconfigured
from pgtasks.storage.query import SCHEMA_NAME, in_schema, load

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["Migration", "Step", "find", "script", "statements"]

SQL = load("schema.sql")


@dataclass(frozen=True, slots=True)
class Step:
    """One direction of a migration.

    Attributes:
        sql: The file's text, with the literal schema ``pgtasks.``.
        transactional: All of it happens or nothing.
    """

    sql: str = field(repr=False)
    transactional: bool


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the schema, and the way back if there is one.

    Attributes:
        version: Its number; they are applied in order.
        name: The file's name without number and suffix.
        up: The change.
        down: The way back.
        breaking: Programs that do not know this migration must not run after it.
        needs: The oldest major version of PostgreSQL that takes it.
        checksum: SHA-256 of the file's text, kept with the row that says it was applied.
    """

    version: int
    name: str
    up: Step
    down: Step | None
    breaking: bool
    needs: int
    checksum: str

    def __str__(self) -> str:
        return f"{self.version:04}_{self.name}"


def find(folder: Traversable | None = None) -> list[Migration]:
    """Read all migrations, in order: those in the package, or in ``folder``."""
    folder = _home() if folder is None else folder
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in folder.iterdir()
        if path.name.endswith(".sql")
    }
    found: dict[int, Migration] = {}
    for name in sorted(texts):
        if name.endswith(".down.sql"):
            if name.replace(".down.sql", ".sql") not in texts:
                raise StorageMisconfigured(f"{name} in {folder} leads back from nothing.")
            continue
        migration = _read(name, texts)
        if (twin := found.get(migration.version)) is not None:
            raise StorageMisconfigured(
                f"{twin} and {migration} in {folder} have the same number; give the newer "
                f"one the next."
            )
        found[migration.version] = migration
    return [found[version] for version in sorted(found)]


def _home() -> Traversable:
    packaged = files("pgtasks").joinpath("migrations")
    # A checkout, which is also what an editable install imports, has them beside the
    # package; the wheel has them inside.
    checkout = Path(__file__).resolve().parents[2] / "migrations"
    return packaged if packaged.is_dir() else checkout


_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_HEADER = re.compile(r"^--! *(.*?) *$", re.MULTILINE)


def _read(name: str, texts: dict[str, str]) -> Migration:
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        raise StorageMisconfigured(
            f"{name!r} is no name for a migration: expected 0001_some_words.sql."
        )
    text = texts[name]
    headers = _headers(name, text)
    down = name.replace(".sql", ".down.sql")
    back = None
    if down in texts:
        transactional = "no-transaction" not in _headers(down, texts[down])
        back = Step(texts[down], transactional)
    return Migration(
        version=int(match[1]),
        name=match[2],
        up=Step(text, "no-transaction" not in headers),
        down=back,
        breaking="breaking" in headers,
        needs=int(headers.get("needs", "0")),
        # Git may have changed the ends of lines on the way; they mean nothing.
        checksum=hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest(),
    )


def _headers(name: str, text: str) -> dict[str, str]:
    headers = {}
    for line in _HEADER.findall(text):
        match = re.fullmatch(r"(no-transaction|breaking)|(needs) +(\d+)", line)
        if match is None:
            raise StorageMisconfigured(
                f"{name}: '--! {line}' is unknown; there are '--! no-transaction', "
                f"'--! breaking' and '--! needs 14'."
            )
        headers[match[1] or match[2]] = match[3] or ""
    return headers


_TOKEN = re.compile(
    r"""
      '(?:[^']|'')*'                   # a string
    | "(?:[^"]|"")*"                   # a name
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$  # a body
    | --[^\n]* | /\*.*?\*/             # comments
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)


def statements(text: str) -> list[str]:
    """Cut ``text`` at the semicolons that end a statement.

    Sent as one string, statements are one transaction, which those that need none
    refuse.
    """
    pieces = []
    begin = 0
    for match in _TOKEN.finditer(text):
        if match["end"]:
            pieces.append(text[begin : match.start()])
            begin = match.end()
    pieces.append(text[begin:])
    return [
        piece.strip() for piece in pieces if re.sub(r"(?m)^\s*--.*$", "", piece).strip()
    ]


def script(
    from_: int = 0,
    to: int | None = None,
    *,
    schema: str = "pgtasks",
    folder: Traversable | None = None,
    transactions: bool = True,
) -> str:
    """Write the SQL that leads from one version to another, bookkeeping included.

    Args:
        from_: The version that the database has; 0 is an empty one.
        to: The version to reach; a lower one leads back down; None is the newest.
        schema: Where the tables are, or are to be.
        folder: Other migrations than the package's.
        transactions: Write ``begin`` and ``commit``, for psql. Django's ``RunSQL`` and
            Alembic have their own transaction around it.
    """
    if not SCHEMA_NAME.fullmatch(schema):
        raise StorageMisconfigured(f"{schema!r} is not a usable schema name.")
    found = find(folder)
    if to is None:
        to = found[-1].version if found else 0
    blocks = []
    if to >= from_:
        if from_ == 0:
            blocks.append(
                f"create schema if not exists {schema};\n\n"
                f"{in_schema(SQL['bookkeeping'], schema)};"
            )
        for migration in found:
            if from_ < migration.version <= to:
                noted = _filled(SQL["record"], **record(migration))
                blocks.append(_block(migration, migration.up, noted, transactions))
    else:
        for migration in reversed(found):
            if to < migration.version <= from_:
                back = way_back(migration)
                forget = _filled(SQL["forget"], version=migration.version)
                blocks.append(_block(migration, back, forget, transactions))
    return "\n\n".join(in_schema(block, schema) for block in blocks) + "\n"


def way_back(migration: Migration) -> Step:
    """The down step of ``migration``.

    Raises:
        StorageMisconfigured: It has none.
    """
    if migration.down is None:
        raise StorageMisconfigured(
            f"There is no way back from {migration}: it has no {migration}.down.sql. "
            f"Restore a backup instead."
        )
    return migration.down


def _block(migration: Migration, step: Step, bookkeeping: str, transactions: bool) -> str:
    body = step.sql.strip()
    if not body.endswith(";"):
        body += "\n;"
    lines: Iterator[str] | Sequence[str] = (f"-- {migration}", body, bookkeeping)
    if transactions and step.transactional:
        lines = (f"-- {migration}", "begin;", body, bookkeeping, "commit;")
    return "\n".join(lines)


def record(migration: Migration) -> dict[str, object]:
    """The row that says that ``migration`` was applied."""
    return {
        "version": migration.version,
        "name": migration.name,
        "checksum": migration.checksum,
        "breaking": migration.breaking,
    }


def _filled(statement: str, **values: object) -> str:
    # For a script, where there is nobody to send parameters: ours are numbers, names
    # of files and checksums.
    return re.sub(r"%\((\w+)\)s", lambda match: f"'{values[match[1]]}'", statement) + ";"
