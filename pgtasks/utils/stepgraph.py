"""Draws boot steps; see `pgtasks.bootsteps`."""

from __future__ import annotations

from typing import Any

from pgtasks.utils.graph import GraphFormatter

__all__ = ["StepFormatter", "last_part"]


def last_part(name: str) -> str:
    """The short form of a dotted name."""
    return name.rpartition(".")[2]


class StepFormatter(GraphFormatter):
    """Draws steps: the last one of a blueprint is its own, larger kind of node."""

    blueprint_prefix = "⧉"
    conditional_prefix = "∘"
    blueprint_scheme = {
        "shape": "parallelogram",
        "color": "slategray4",
        "fillcolor": "slategray3",
    }

    def label(self, step: Any) -> Any:
        """The name that is drawn, with a sign of its kind."""
        return step and f"{self._get_prefix(step)}{step.label or last_part(step.name)}"

    def _get_prefix(self, step: Any) -> str:
        if step.last:
            return self.blueprint_prefix
        return self.conditional_prefix if step.conditional else ""

    def node(self, obj: Any, **attrs: Any) -> bytes:
        """Draw a step."""
        scheme = self.blueprint_scheme if obj.last else self.node_scheme
        return self.draw_node(obj, scheme, attrs)

    def edge(self, a: Any, b: Any, **attrs: Any) -> bytes:
        """Draw that a step needs another."""
        if a.last:
            attrs.update(arrowhead="none", color="darkseagreen3")
        return self.draw_edge(a, b, self.edge_scheme, attrs)
