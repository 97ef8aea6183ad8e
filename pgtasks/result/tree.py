"""The tree of tasks that one task led to: what it sent, and what those sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pgtasks.exceptions import IncompleteStream

__all__ = ["ResultTree"]


class ResultTree:
    """The part of a result that walks: to its children, and back to its parents."""

    id: str
    parent: Any

    def _parents(self) -> Iterator[Any]:
        node = self.parent
        while node:
            yield node
            node = node.parent

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Walk through this result and everything it sent, as ``(parent, result)``.

        Raises:
            IncompleteStream: One is not ready, and ``intermediate`` is not set.
        """
        waiting: deque[tuple[Any, Any]] = deque([(None, self)])
        while waiting:
            parent, node = waiting.popleft()
            yield parent, node
            if node.ready():
                waiting.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream(
                    f"{node!r} is not ready, so that what it sent is not known yet. Wait "
                    f"for it, or pass intermediate=True."
                )

    def collect(
        self, intermediate: bool = False, **kwargs: Any
    ) -> Iterator[tuple[Any, Any]]:
        """Wait for this task and for those that it sent, as ``(result, value)``.

        Follows results that a task returned or sent, so that the leaves of a tree of
        tasks come out; ``Task.trail`` must be on, as it is by default.

        Example:
            >>> from tasks import A
            >>> result = A.delay(10)
            >>> [value for child, value in result.collect()
            ...  if not child.children]
            [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
        """
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> Any:
        """This result and everything it led to, as a `DependencyGraph`."""
        from pgtasks.utils.graph import DependencyGraph, GraphFormatter

        graph = DependencyGraph(
            formatter=formatter or GraphFormatter(root=self.id, shape="oval")
        )
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent:
                graph.add_edge(parent, node)
        return graph

    @cached_property
    def graph(self) -> Any:
        """`build_graph`, once."""
        return self.build_graph()

    def get_leaf(self) -> Any:
        """The value of the last of all tasks that this one led to."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value
