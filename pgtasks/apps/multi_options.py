"""Options for all workers of a cluster, and for some: ``-c 3 -c:image,video 10``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["NamespacedOptionParser"]


class NamespacedOptionParser:
    """Reads options for all nodes, and those for some: ``-c 3 -c:image,video 10``.

    Args:
        args: The words.

    Attributes:
        values: Those that are no options: names of nodes.
        options: For all nodes, by their flag; None for those without a value.
        namespaces: For some nodes, by what stands behind the colon.
        passthrough: What stands behind ``--``, with that.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.args = args
        self.options: dict[str, Any] = {}
        self.values: list[str] = []
        self.passthrough = ""
        self.namespaces: defaultdict[str, dict[str, Any]] = defaultdict(dict)

    def parse(self) -> None:
        """Read the words."""
        words = [word for word in self.args if word]
        while words:
            word = words.pop(0)
            if word == "--":
                self.passthrough = " ".join([word, *words])
                return
            if word.startswith("--"):
                self.process_long_opt(word[2:])
            elif word.startswith("-"):
                takes = bool(words) and not words[0].startswith("-")
                self.process_short_opt(word[1:], words.pop(0) if takes else None)
            else:
                self.values.append(word)

    def process_long_opt(self, arg: str, value: str | None = None) -> None:
        """Keep a long option, whose value is behind an equals sign."""
        name, equals, given = arg.partition("=")
        self.add_option(name, given if equals else value)

    def process_short_opt(self, arg: str, value: str | None = None) -> None:
        """Keep a short option."""
        self.add_option(arg, value, short=True)

    def add_option(
        self, name: str, value: Any, short: bool = False, ns: str | None = None
    ) -> None:
        """Keep an option, for all or for those whom its name tells.

        Args:
            name: Its name, and behind a colon whom it is for.
            value: Its value.
            short: It has one dash.
            ns: Accepted from Celery.
        """
        flag, colon, nodes = name.partition(":")
        kept = self.namespaces[nodes] if colon else self.options
        kept[f"-{flag}" if short else f"--{flag}"] = value

    def optmerge(
        self, ns: str, defaults: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The options of a node: its own over those of all."""
        return {**(self.options if defaults is None else defaults), **self.namespaces[ns]}
