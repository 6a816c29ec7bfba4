"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell = str | Text


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], console: Console | None = None) -> None:
    """Prints columns that wrap at the terminal's width, nothing in them taken for markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        numeric = header in ("value", "floor")
        table.add_column(Text(header), overflow="fold", justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    (console or Console()).print(table)
