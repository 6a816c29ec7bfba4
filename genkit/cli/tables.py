"""Tables on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell = str | Text
UNBROKEN = 500
"""Columns of a table that no terminal shows: whoever reads it wants a row on a line."""


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], console: Console | None = None) -> None:
    """Prints columns that wrap at a terminal's width and nowhere else, nothing in them taken for markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        numeric = header in ("value", "floor")
        table.add_column(Text(header), overflow="fold", justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    narrow = "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty())
    (console or Console(width=None if narrow else UNBROKEN)).print(table)
