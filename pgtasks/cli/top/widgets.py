"""Parts of the screen: a table that keeps its place, and a number in large digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Digits, Static

__all__ = ["Rows", "Tile"]

Row = tuple[str, tuple[Text, ...]]


class Rows(DataTable[Text]):
    """A table whose cursor stays on its row while the rows change.

    Args:
        *columns: Their names.
        id: Of the widget.
        title: What stands in its border.
    """

    def __init__(self, *columns: str, id: str, title: str = "") -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self._names = columns
        self._title = title

    def on_mount(self) -> None:
        """Add the columns."""
        for name in self._names:
            self.add_column(name, key=name)
        self.border_title = self._title

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows, each with its key."""
        keys = [key for key, _ in rows]
        if keys == [row.key.value for row in self.ordered_rows]:
            for key, cells in rows:
                for name, cell in zip(self._names, cells, strict=True):
                    if self.get_cell(key, name) != cell:
                        self.update_cell(key, name, cell, update_width=True)
            return
        chosen, top = self.chosen, self.scroll_y
        self.clear()
        for key, cells in rows:
            self.add_row(*cells, key=key)
        if chosen in keys:
            self.move_cursor(row=keys.index(chosen), animate=False, scroll=False)
        self.scroll_to(y=top, animate=False)

    @property
    def chosen(self) -> str | None:
        """The key of the row with the cursor; None if there are none."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value


class Tile(Vertical):
    """A number with its name, in large digits where there is room.

    Args:
        name: What is counted.
        **options: As of any widget.
    """

    def __init__(self, title: str, **options: Any) -> None:
        super().__init__(**options)
        self._title = title
        self.number: int | None = None

    def compose(self) -> ComposeResult:
        """Put it together."""
        yield Static(self._title, classes="tile-title")
        yield Static("", classes="tile-number")
        yield Digits("", classes="tile-digits")

    def show(self, number: int) -> None:
        """Show another number."""
        self.number = number
        self.query_one(".tile-number", Static).update(Text(f"{number:,}", style="bold"))
        # Large digits of a large number would not fit.
        self.query_one(Digits).update(f"{number:,}" if number < 100_000 else _short(number))


def _short(number: int) -> str:
    # The digits know these letters.
    return f"{number / 1e6:.1f}E6" if number >= 1_000_000 else f"{number / 1e3:.0f}E3"
