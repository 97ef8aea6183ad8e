"""Colours for the terminal, and pictures where it shows them."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["colored", "imgcat", "supports_images"]

BLACK, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, WHITE = range(8)
OP_SEQ = "\033[%dm"
RESET_SEQ = "\033[0m"
COLOR_SEQ = "\033[1;%dm"

IS_WINDOWS = sys.platform == "win32"


def fg(s: int) -> str:
    """Escape sequence of a colour by its number: 30 and up for text, 40 for ground."""
    return COLOR_SEQ % s


_COLORS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_OPERATIONS = {
    **{name: fg(30 + number) for number, name in enumerate(_COLORS)},
    **{f"i{name}": fg(40 + number) for number, name in enumerate(_COLORS)},
    "bold": OP_SEQ % 1,
    "underline": OP_SEQ % 4,
    "blink": OP_SEQ % 5,
    "reverse": OP_SEQ % 7,
    "bright": OP_SEQ % 8,
    "reset": RESET_SEQ,
}


class colored:
    """Coloured text that nests: ``colored().red("no ", colored().bold("way"))``.

    Methods are the colours, as text (``red``) or ground (``ired``), and ``bold``,
    ``underline``, ``blink``, ``reverse``, ``bright`` and ``reset``. ``str()`` gives
    the escape sequences, unless ``enabled=False``.
    """

    def __init__(self, *s: object, **kwargs: Any) -> None:
        self.s = s
        self.enabled: bool = not IS_WINDOWS and kwargs.get("enabled", True)
        self.op: str = kwargs.get("op", "")
        self.names = {name: getattr(self, name) for name in _COLORS}

    def __getattr__(self, name: str) -> Callable[..., colored]:
        try:
            return partial(self._paint, _OPERATIONS[name])
        except KeyError:
            raise AttributeError(f"colored has no colour or style {name!r}") from None

    def __str__(self) -> str:
        return f"{self.embed()}{RESET_SEQ if self.enabled else ''}"

    def __repr__(self) -> str:
        return repr(self.no_color())

    def __add__(self, other: object) -> str:
        return f"{self}{other}"

    def embed(self) -> str:
        """The text in its colour, which goes on behind it."""
        return f"{self.op if self.enabled else ''}{''.join(map(str, self.s))}"

    def no_color(self) -> str:
        """The text alone."""
        return "".join(p.no_color() if isinstance(p, colored) else str(p) for p in self.s)

    def _add(self, a: object, b: object) -> str:
        return f"{a}{b}"

    def _fold_no_color(self, a: object, b: object) -> str:
        return "".join(p.no_color() if isinstance(p, colored) else str(p) for p in (a, b))

    def node(self, s: tuple[object, ...], op: str) -> colored:
        """Text behind an escape sequence."""
        return type(self)(*s, enabled=self.enabled, op=op)

    def _paint(self, op: str, *s: object) -> colored:
        return self.node(s, op)


# ── pictures ────────────────────────────────────────────────────────────────────────────


def supports_images() -> bool:
    """Whether the terminal shows pictures, as iTerm does."""
    try:
        return sys.stdin.isatty() and bool(os.environ.get("ITERM_PROFILE"))
    except AttributeError:
        # There is no standard input.
        return False


def imgcat(
    path: str, inline: int = 1, preserve_aspect_ratio: int = 0, **kwargs: object
) -> str:
    """The escape sequence that shows a picture.

    Args:
        path: Its file.
        inline: Show it; else it is offered as a download.
        preserve_aspect_ratio: Do not stretch it.
        **kwargs: Accepted from Celery.
    """
    # What screen and tmux do not know they pass on, wrapped like this.
    wrapped = os.environ.get("TERM", "").startswith("screen")
    before, after = ("\033Ptmux;\033\033]", "\a\033\\") if wrapped else ("\033]", "\a")
    options = f"inline={inline:d};preserveAspectRatio={preserve_aspect_ratio:d}"
    return f"\n{before}1337;File={options}:{_read_as_base64(path)}{after}"


def _read_as_base64(path: str) -> str:
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode("ascii")
