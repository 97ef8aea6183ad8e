"""The ``graph`` command: drawings for Graphviz of boot steps, and of workers."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from pgtasks.cli.groups import Subgroup
from pgtasks.cli.inspect import unavailable
from pgtasks.cli.invocation import Invocation
from pgtasks.cli.options import Command, json_option
from pgtasks.cli.output import clean
from pgtasks.utils.graph import DependencyGraph, GraphFormatter

__all__ = ["graph"]

_EXTRA = {"allow_extra_args": True}


@click.group(cls=Subgroup)
def graph() -> None:
    """Draw something in Graphviz's language: pgtasks graph … | dot -Tsvg."""


# ── boot steps ──────────────────────────────────────────────────────────────────────────


@graph.command(cls=Command, context_settings=_EXTRA)
@json_option
@click.pass_context
def bootsteps(ctx: click.Context, as_json: bool) -> None:
    """Draw the parts of a worker, and the boot steps that the application adds.

    An arrow leads from a step to what it needs. 'worker' or 'consumer' behind the command
    draws one half only.
    """
    from pgtasks.worker import components, consumer
    from pgtasks.worker.steps import Stepped

    app = ctx.ensure_object(Invocation).application
    app.loader.import_default_modules()
    wanted = {word.lower() for word in ctx.args} or {"worker", "consumer"}
    if unknown := wanted - {"worker", "consumer"}:
        raise click.UsageError(
            f"{unknown.pop()!r} cannot be drawn: write worker, consumer, or neither."
        )
    drawn: Any = None
    if "worker" in wanted:
        drawn = _blueprint(Stepped.Blueprint, _steps(components), app.steps["worker"])
    if "consumer" in wanted:
        other = _blueprint(
            consumer.Consumer.Blueprint, _steps(consumer), app.steps["consumer"]
        )
        if drawn is None:
            drawn = other
        else:
            drawn.connect(other)
            for step in other:
                if not other[step]:
                    drawn.add_edge(step, components.Consumer)
    _print(ctx, drawn, as_json=as_json)


def _steps(module: Any) -> list[Any]:
    from pgtasks.bootsteps import StepType

    return [each for each in vars(module).values() if isinstance(each, StepType)]


def _blueprint(cls: Any, parts: Iterable[Any], added: Iterable[Any]) -> DependencyGraph:
    """What needs what; no step is made, for making one may begin something."""
    blueprint = cls([*parts, *added])
    blueprint._finalize_steps(blueprint.claim_steps())
    found: DependencyGraph = blueprint.graph
    return found


# ── workers ─────────────────────────────────────────────────────────────────────────────


class _Node:
    """Something that is drawn, in its own way.

    Args:
        label: What stands in it.
        key: Which one it is: two may have one label.
        scheme: How it looks.
    """

    def __init__(self, label: str, key: str, **scheme: Any) -> None:
        self.label = label
        self.key = key
        self.scheme = {**scheme, "label": label}


class _Formatter(GraphFormatter):
    def label(self, obj: Any) -> Any:
        return obj and obj.key

    def node(self, obj: Any, **attrs: Any) -> bytes:
        return self.draw_node(obj, {**self.node_scheme, **obj.scheme}, attrs)

    def terminal_node(self, obj: Any, **attrs: Any) -> bytes:
        return self.draw_node(obj, {**self.term_scheme, **obj.scheme}, attrs)


@graph.command(cls=Command, context_settings=_EXTRA)
@json_option
@click.pass_context
def workers(ctx: click.Context, as_json: bool) -> None:
    """Draw the workers that answer, their places, and the database.

    \b
    Words behind the command change that:
      nodes:w1,w2 threads:4,8   these workers, with so many places, in place of those
                                that answer
      wmax:N tmax:N             draw so many workers (4) and places (3); 0 is all
      broker:URL backend:URL    draw these in place of those of the settings
      enumerate                 numbers in place of names
      generic                   kinds in place of URLs
    """  # noqa: D301 - \b is what keeps click from filling the lines
    words = dict(_word(each) for each in ctx.args)
    app = ctx.ensure_object(Invocation).application
    fleet = _named(words) if "nodes" in words else _answering(ctx, app)
    drawn = DependencyGraph(formatter=_Formatter(id="workers"))
    broker = words.get("broker") or app.connection().as_uri()
    backend = words.get("backend") or app.conf.result_backend or ""
    places = [
        _place(kind, url, generic="generic" in words, **look)
        for kind, url, look in (
            ("Broker", broker, {"shape": "cylinder", "fillcolor": "cadetblue3"}),
            ("Backend", backend, {"shape": "folder", "fillcolor": "peachpuff3"}),
        )
        if url
    ]
    for place in places:
        drawn.add_arc(place)
    most, within = _number(words, "wmax", 4), _number(words, "tmax", 3)
    names = _few(list(fleet), most, "Worker", enumerated="enumerate" in words)
    for name, label in names.items():
        worker = _Node(label, f"worker {label}")
        drawn.add_arc(worker)
        for place in places:
            drawn.add_edge(worker, place)
        slots = _few(
            [str(each + 1) for each in range(fleet.get(name, 0))],
            within,
            "P",
            enumerated="enumerate" in words,
        )
        for slot in slots.values():
            thread = _Node(slot, f"{worker.key} {slot}", shape="oval", fontsize=10)
            drawn.add_arc(thread)
            drawn.add_edge(thread, worker)
    _print(ctx, drawn, as_json=as_json)


def _word(text: str) -> tuple[str, str]:
    known = (
        "nodes", "threads", "wmax", "tmax", "broker", "backend", "enumerate", "generic"
    )  # fmt: skip
    name, _, value = text.partition(":")
    if name not in known:
        raise click.UsageError(f"{text!r} is not known here. There are {', '.join(known)}.")
    return name, value


def _number(words: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(words.get(name) or (0 if name in words else default))
    except ValueError:
        raise click.UsageError(f"{name}:{words[name]} is no number.") from None


def _named(words: Mapping[str, str]) -> dict[str, int]:
    threads = [each for each in words.get("threads", "").split(",") if each]
    if not all(each.isdigit() for each in threads):
        raise click.UsageError(f"threads:{words['threads']}: write numbers.")
    nodes = words["nodes"].split(",")
    counts = [int(each) for each in threads] + [0] * len(nodes)
    return dict(zip(nodes, counts, strict=False))


def _answering(ctx: click.Context, app: Any) -> dict[str, int]:
    invocation = ctx.ensure_object(Invocation)
    with unavailable("graph workers", debug=invocation.debug):
        replies = app.control.inspect().stats() or {}
    return {
        name: int(reply.get("pool", {}).get("max-concurrency") or 0)
        for name, reply in sorted(replies.items())
    }


def _place(kind: str, url: str, *, generic: bool, **scheme: Any) -> _Node:
    label = f"{kind} ({url.partition('://')[0]}://)" if generic else url
    return _Node(label, f"{kind} {url}", **scheme)


def _few(names: Sequence[str], most: int, kind: str, *, enumerated: bool) -> dict[str, str]:
    """What stands for some things: at most so many, with a word for those left out."""
    labels = {
        name: f"{kind}{place}" if enumerated else name
        for place, name in enumerate(names, 1)
    }
    left = len(names) - most
    if most < 2 or left <= 0:
        return labels
    shown = list(labels.items())
    return dict([*shown[: most - 1], ("", f"… {left} more …"), shown[-1]])


# ── printing ────────────────────────────────────────────────────────────────────────────


def _print(ctx: click.Context, drawn: DependencyGraph, *, as_json: bool) -> None:
    out = ctx.ensure_object(Invocation).out
    if as_json:

        def name(obj: Any) -> str:
            return str(drawn.formatter.label(obj))

        out.json(
            {
                "nodes": [name(each) for each in drawn],
                "edges": [
                    [name(each), name(needed)]
                    for each, all_needed in drawn.items()
                    for needed in all_needed
                ],
            }
        )
        return
    text = io.StringIO()
    drawn.to_dot(text)
    out.say(clean(text.getvalue(), lines=True).rstrip())
