"""The ``logtool`` command: what the logs of workers tell of their tasks."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import click

from pgtasks.cli.groups import Subgroup
from pgtasks.cli.invocation import Failure, Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import clean

__all__ = ["Audit", "logtool"]

#: How a line begins that a logger has written: ``[2026-01-31 18:30:00,123: INFO/…] ``.
_START = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]*\] ?(.*)", re.DOTALL)
#: Celery before 4 wrote "Received task: name[id]", and its successors write "Task name[id]
#: received"; so do we.
_TASK = re.compile(
    r"(?:Task|Received task:|Discarding revoked task:) ?(?P<name>[\w.<>-]+)\[(?P<id>[^\]]+)\]:?"
    r"(?P<rest>.*)",
    re.DOTALL,
)
_RECEIVED = re.compile(r"\s*(received|ETA:|expires:|\Z)")
_RETRIED = re.compile(r"\s*retry:")
_ENDS = {
    "succeeded": re.compile(r"\s*succeeded\b"),
    "ignored": re.compile(r"\s*ignored\b"),
    "revoked": re.compile(r"\s*revoked\b"),
}


@dataclass
class Audit:
    """What a log tells; `feed` it line by line.

    Attributes:
        keeps: Which lines are kept: ``errors``, ``traces``, ``others``. A log may be larger
            than the memory.
        names: The name of each task that was received or has ended, by its id.
        received: Ids of those that were received.
        ended: What became of each: ``succeeded``, ``failed``, ``ignored``, ``revoked``.
        retries: How often tasks asked to be retried, by name.
        errors: The lines that say that a task has failed.
        traces: Each traceback, with the line that it belongs to.
        others: The lines about something else.
    """

    keeps: str = ""
    names: dict[str, str] = field(default_factory=dict)
    received: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    traces: list[list[str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    _last: str | None = None
    _inside: bool = False

    def read(self, lines: Iterable[str]) -> Audit:
        """Take in all lines; the answer is this."""
        for line in lines:
            self.feed(line.rstrip("\r\n"))
        return self

    def feed(self, line: str) -> None:
        """Take in one line."""
        start = _START.match(line)
        if start is None:
            # What follows a line of a logger belongs to it: a traceback, most often.
            if self.keeps == "traces":
                if not self._inside:
                    self.traces.append([] if self._last is None else [self._last])
                self.traces[-1].append(line)
            self._inside = True
            return
        self._last, self._inside = line, False
        task = _TASK.match(start[1])
        if task is None:
            if self.keeps == "others":
                self.others.append(line)
        else:
            self._note(line, task["name"], task["id"], task["rest"], start[1])

    def _note(self, line: str, name: str, id: str, rest: str, message: str) -> None:
        self.names[id] = name
        if message.startswith("Discarding revoked"):
            self.ended[id] = "revoked"
        elif _RETRIED.match(rest):
            self.retries[name] += 1
        elif message.startswith("Received task") or _RECEIVED.match(rest):
            self.received.add(id)
            # It comes again when it is retried.
            self.ended.pop(id, None)
        else:
            kinds = [kind for kind, end in _ENDS.items() if end.match(rest)]
            self.ended[id] = kinds[0] if kinds else "failed"
            if not kinds and self.keeps == "errors":
                self.errors.append(line)

    def incomplete(self) -> dict[str, str]:
        """The tasks that were received and have not ended: their names by their ids."""
        return {id: self.names[id] for id in self.names if id not in self.ended}

    def report(self) -> dict[str, Any]:
        """How many of each task there were, and what became of them."""
        kinds = ("succeeded", "failed", "ignored", "revoked")
        tasks: dict[str, Counter[str]] = {}
        for id, name in self.names.items():
            tasks.setdefault(name, Counter())[self.ended.get(id, "incomplete")] += 1
        return {
            "total": len(self.names),
            **{kind: list(self.ended.values()).count(kind) for kind in kinds},
            "incomplete": len(self.incomplete()),
            "retries": sum(self.retries.values()),
            "tasks": {
                name: {
                    "total": counts.total(),
                    **{kind: counts[kind] for kind in (*kinds, "incomplete")},
                    "retries": self.retries[name],
                }
                for name, counts in sorted(
                    tasks.items(), key=lambda item: (-item[1].total(), item[0])
                )
            },
        }


@click.group(cls=Subgroup)
def logtool() -> None:
    """Read logs of workers: Celery's, and ours, which are written alike.

    FILES are read one after the other; '-' or none is the standard input.
    """


@contextmanager
def _opened(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdin
        return
    try:
        with open(name, encoding="utf-8", errors="backslashreplace") as file:
            yield file
    except OSError as error:
        raise Failure(f"Cannot read {name}: {error.strerror}.", 66) from error


def _audit(files: Sequence[str], keeps: str = "") -> Audit:
    audit = Audit(keeps)
    for name in files or ("-",):
        with _opened(name) as file:
            audit.read(file)
    return audit


def _command(function: Any) -> click.Command:
    """A command of the group: files and ``--json``; a decorator."""
    for decorate in (click.pass_context, json_option, click.argument("files", nargs=-1)):
        function = decorate(function)
    return logtool.command(cls=Command)(function)


@_command
def stats(ctx: click.Context, files: Sequence[str], as_json: bool) -> None:
    """Count tasks, and what became of them."""
    out = ctx.ensure_object(Invocation).out
    report = _audit(files).report()
    if as_json:
        out.json(report)
        return
    columns = (
        "total", "succeeded", "failed", "ignored", "revoked", "incomplete", "retries"
    )  # fmt: skip
    rows = [
        (name, *(counts[column] for column in columns))
        for name, counts in report["tasks"].items()
    ]
    rows.append(("all", *(report[column] for column in columns)))
    out.table(("task", *columns), rows)


@_command
def traces(ctx: click.Context, files: Sequence[str], as_json: bool) -> None:
    """Print the tracebacks, each below the line that it belongs to."""
    _print(
        ctx, ["\n".join(each) for each in _audit(files, "traces").traces], as_json=as_json
    )


@_command
def errors(ctx: click.Context, files: Sequence[str], as_json: bool) -> None:
    """Print the lines that say that a task has failed."""
    _print(ctx, _audit(files, "errors").errors, as_json=as_json)


@_command
def incomplete(ctx: click.Context, files: Sequence[str], as_json: bool) -> None:
    """Print the tasks that were received and have not ended."""
    found = _audit(files).incomplete()
    if as_json:
        records = [{"id": id, "task": name} for id, name in found.items()]
        ctx.ensure_object(Invocation).out.json(records)
    else:
        lines = [f"Did not complete: {name}[{id}]" for id, name in found.items()]
        _print(ctx, lines, as_json=False)


@_command
def debug(ctx: click.Context, files: Sequence[str], as_json: bool) -> None:
    """Print the lines that are about something else than tasks."""
    _print(ctx, _audit(files, "others").others, as_json=as_json)


def _print(ctx: click.Context, texts: Sequence[str], *, as_json: bool) -> None:
    out = ctx.ensure_object(Invocation).out
    if as_json:
        out.json(texts)
        return
    for text in texts:
        out.say(clean(text, lines=True))
