"""Which class each test of a suite is in: what must pass and what need not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CLASSES", "Targets"]

#: P0 must pass as it is; P1 should; A1 needs an adapted copy; P2 and A2 are a
#: stretch; N does not apply.
CLASSES = ("P0", "P1", "A1", "P2", "A2", "N")


@dataclass(frozen=True)
class Targets:
    """The classes of all tests, by file."""

    files: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, name: str = "targets.json") -> Targets:
        path = Path(__file__).with_name(name)
        return cls(json.loads(path.read_text(encoding="utf-8"))["files"])

    def class_of(self, test: str) -> str | None:
        """Class of a test by its id, ``path::Class::name[parameters]``; None if unknown.

        A file has one class, and names those of its classes and functions that
        are in another. Parameters do not matter.
        """
        path, _, name = test.partition("::")
        if path not in self.files:
            return None
        name = name.partition("[")[0]
        exceptions: dict[str, list[str]] = self.files[path].get("except", {})
        for candidate in (name, name.partition("::")[0]):
            for class_, names in exceptions.items():
                if candidate in names:
                    return class_
        default: str = self.files[path]["class"]
        return default

    def below(self, where: Iterable[str], classes: Iterable[str]) -> list[str]:
        """The files at or below these paths that have tests of these classes."""
        places = [place.rstrip("/") for place in where]
        return [
            path
            for path in self.files
            if any(path == place or path.startswith(f"{place}/") for place in places)
            and self.count([path], classes)
        ]

    def count(self, files: Iterable[str], classes: Iterable[str]) -> int:
        """How many tests of these classes the files have."""
        wanted = list(classes)
        numbers = [self.files[path]["items"] for path in files]
        return sum(items.get(name, 0) for items in numbers for name in wanted)


def group_of(path: str) -> str:
    """What a file is counted under: its directory, ``t/unit/app``, or itself.

    Each file of the integration tests is a group, with a worker of its own: they take
    minutes, and one whose worker is lost must not cost the others.
    """
    if path.startswith("t/integration/"):
        return path
    return "/".join(path.split("/")[:3]) if path.count("/") > 2 else path.rpartition("/")[0]
