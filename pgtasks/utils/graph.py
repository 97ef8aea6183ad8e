"""Graphs of things that depend on things: sorted, printed, drawn with Graphviz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError as _CycleError
from graphlib import TopologicalSorter
from typing import IO, Any

__all__ = ["DOT", "CycleError", "DependencyGraph", "GraphFormatter"]


class CycleError(Exception):
    """Objects depend on each other in a circle."""


class DependencyGraph:
    """A directed graph of objects and what they depend on.

    Args:
        it: Pairs of an object and its dependencies.
        formatter: Draws the objects; see `to_dot`.
    """

    def __init__(
        self,
        it: Iterable[tuple[Any, Iterable[Any]]] | None = None,
        formatter: GraphFormatter | None = None,
    ) -> None:
        self.formatter: Any = formatter or GraphFormatter()
        self.adjacent: dict[Any, list[Any]] = {}
        if it is not None:
            self.update(it)

    # ── building ──

    def add_arc(self, obj: Any) -> None:
        """Add an object, so far without dependencies."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: Any, B: Any) -> None:
        """Let ``A``, an object of the graph, depend on ``B``."""
        self.adjacent[A].append(B)

    def connect(self, graph: DependencyGraph) -> None:
        """Add the objects of another graph; of those in both, its dependencies count."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[Any, Iterable[Any]]]) -> None:
        """Add pairs of an object and its dependencies."""
        pairs = list(it)
        for obj, _ in pairs:
            self.add_arc(obj)
        for obj, dependencies in pairs:
            self.adjacent[obj].extend(dependencies)

    # ── asking ──

    def topsort(self) -> list[Any]:
        """All objects, each after what it depends on.

        Raises:
            CycleError: There is no such order; the message names the circle.
        """
        try:
            return list(TopologicalSorter(self.adjacent).static_order())
        except _CycleError as error:
            circle = " → ".join(str(obj) for obj in error.args[1])
            raise CycleError(f"These depend on each other in a circle: {circle}") from None

    def valency_of(self, obj: Any) -> int:
        """How many dependencies an object has, theirs included; 0 for a stranger."""
        dependencies = self.adjacent.get(obj, ())
        return len(dependencies) + sum(self.valency_of(each) for each in dependencies)

    def edges(self) -> Iterator[Any]:
        """The objects that depend on something."""
        return (obj for obj, dependencies in self.adjacent.items() if dependencies)

    def items(self) -> Any:
        """Pairs of an object and the list of its dependencies."""
        return self.adjacent.items()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: object) -> bool:
        return obj in self.adjacent

    # ── showing ──

    def __repr__(self) -> str:
        return "\n".join(self.repr_node(node) for node in self)

    def repr_node(self, obj: Any, level: int = 1, fmt: str = "{0}({1})") -> str:
        """An object with its valency, and below it, indented, its dependencies."""
        lines = [fmt.format(obj, self.valency_of(obj))]
        for dependency in self.adjacent.get(obj, ()):
            first, *rest = self.repr_node(dependency, level + 1, fmt).split("\n")
            lines += ["     " * level + first, *rest]
        return "\n".join(lines)

    def format(self, obj: Any) -> Any:
        """The object as the graph's formatter shows it."""
        return self.formatter(obj) if self.formatter else obj

    def to_dot(self, fh: IO[str], formatter: GraphFormatter | None = None) -> None:
        """Write the graph to a file in Graphviz's language."""
        draw = formatter or self.formatter
        drawn = set()

        def node(line: bytes, obj: Any) -> None:
            if draw.label(obj) not in drawn:
                drawn.add(draw.label(obj))
                print(line.decode(), file=fh)

        print(draw.head().decode(), file=fh)
        for obj, dependencies in self.items():
            node(draw.node(obj) if dependencies else draw.terminal_node(obj), obj)
            for dependency in dependencies:
                print(draw.edge(obj, dependency).decode(), file=fh)
        print(draw.tail().decode(), file=fh)


class DOT:
    """Templates of Graphviz's language."""

    HEAD = "{IN}{type} {id} {{\n{INp}graph [{attrs}]"
    ATTR = '{name}="{value}"'
    NODE = '{INp}"{0}" [{attrs}]'
    EDGE = '{INp}"{0}" {dir} "{1}" [{attrs}]'
    ATTRSEP = ", "
    DIRS = {"graph": "--", "digraph": "->"}
    TAIL = "{IN}}}"


class GraphFormatter:
    """How a graph is drawn; subclass it and override ``label`` or the schemes.

    Args:
        root: The object that the graph is about.
        type: ``digraph`` or ``graph``.
        id: The graph's name.
        indent: Depth of indentation …
        inw: … and one step of it.
        **scheme: Attributes of all nodes and edges.
    """

    scheme: Mapping[str, Any] = {
        "shape": "box",
        "arrowhead": "vee",
        "style": "filled",
        "fontname": "HelveticaNeue",
    }
    edge_scheme: Mapping[str, Any] = {
        "color": "darkseagreen4",
        "arrowcolor": "black",
        "arrowsize": 0.7,
    }
    node_scheme: Mapping[str, Any] = {"fillcolor": "palegreen3", "color": "palegreen4"}
    term_scheme: Mapping[str, Any] = {"fillcolor": "palegreen1", "color": "palegreen2"}
    graph_scheme: Mapping[str, Any] = {"bgcolor": "mintcream"}

    def __init__(
        self,
        root: Any = None,
        type: str | None = None,
        id: str | None = None,
        indent: int = 0,
        inw: str = "    ",
        **scheme: Any,
    ) -> None:
        self.id = id or "dependencies"
        self.root = root
        self.type = type or "digraph"
        self.direction = DOT.DIRS[self.type]
        self.IN = inw * (indent or 0)
        self.INp = self.IN + inw
        self.scheme = {**self.scheme, **scheme}
        self.graph_scheme = {**self.graph_scheme, "root": self.label(root)}

    def label(self, obj: Any) -> Any:
        """The name under which an object is drawn; equal names are one node."""
        return obj

    def head(self, **attrs: Any) -> bytes:
        """The opening lines."""
        shown = self.attrs(attrs, self.graph_scheme)
        return self.FMT(DOT.HEAD, id=self.id, type=self.type, attrs=shown)

    def tail(self) -> bytes:
        """The closing line."""
        return self.FMT(DOT.TAIL)

    def node(self, obj: Any, **attrs: Any) -> bytes:
        """An object that depends on others."""
        return self.draw_node(obj, self.node_scheme, attrs)

    def terminal_node(self, obj: Any, **attrs: Any) -> bytes:
        """An object that depends on nothing."""
        return self.draw_node(obj, self.term_scheme, attrs)

    def edge(self, a: Any, b: Any, **attrs: Any) -> bytes:
        """The arrow from an object to one that it depends on."""
        return self.draw_edge(a, b, self.edge_scheme, attrs)

    def draw_node(
        self,
        obj: Any,
        scheme: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> bytes:
        """A node's line, with attributes out of a scheme and these."""
        return self.FMT(DOT.NODE, self.label(obj), attrs=self.attrs(attrs, scheme))

    def draw_edge(
        self,
        a: Any,
        b: Any,
        scheme: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> bytes:
        """An edge's line, with attributes out of a scheme and these."""
        names = self.label(a), self.label(b)
        shown = self.attrs(attrs, scheme or self.edge_scheme)
        return self.FMT(DOT.EDGE, *names, dir=self.direction, attrs=shown)

    def attrs(
        self, d: Mapping[str, Any] | None, scheme: Mapping[str, Any] | None = None
    ) -> str:
        """A list of attributes: the formatter's, the scheme's and ``d``, the last wins."""
        merged = {**self.scheme, **(scheme or {}), **(d or {})}
        return DOT.ATTRSEP.join(self.attr(name, value) for name, value in merged.items())

    def attr(self, name: str, value: Any) -> str:
        """One attribute."""
        return DOT.ATTR.format(name=name, value=value)

    def FMT(self, fmt: str, *args: Any, **kwargs: Any) -> bytes:
        """Fill in a template, indented."""
        text = fmt.format(*args, **{**kwargs, "IN": self.IN, "INp": self.INp})
        return text.encode("utf-8", "ignore")
