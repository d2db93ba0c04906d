# SPDX-License-Identifier: GPL-2.0-only
"""Tables on stdout and notes on stderr, with colours only on a terminal."""

import contextlib
import io
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from pyvmm.errors import LackingError


class Styled(NamedTuple):
    """A table cell that has a colour on a terminal."""

    text: str
    style: str

    def __str__(self) -> str:
        """Return the text without its colour."""
        return self.text


Cell = str | Styled


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print `rows` under `headings`, in aligned columns without a frame.

    On a terminal, rich adds colours and folds long cells. A pipe or a file gets one line per row
    and no rich, which takes ten seconds to import in the emulated host.

    Raises `LackingError` on a terminal without rich.
    """
    lines = list(rows)
    if sys.stdout.isatty():
        _print_folded(title, headings, lines)
        return
    texts = [list(headings), *([str(cell) for cell in line] for line in lines)]
    widths = [max(map(len, column)) for column in zip_longest(*texts, fillvalue="")]
    print(title)
    for text in texts:
        print("  ".join(map(str.ljust, text, widths)).rstrip())


def _print_folded(title: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        raise LackingError(
            "tables need the package rich: pip install 'pyvmm[cli]', or pass --json"
        ) from None
    grid = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        grid.add_column(heading, header_style="dim")
    for row in rows:
        grid.add_row(*(Text(*cell) if isinstance(cell, Styled) else Text(cell) for cell in row))
    # Not to stdout directly: some versions of rich exit the process on a closed pipe.
    memory = io.StringIO()
    Console(file=memory, force_terminal=True, highlight=False).print(grid)
    print(memory.getvalue(), end="")


def note(text: str) -> None:
    """Print one line on stderr, prefixed with ``pyvmm:``. Ignore an error of stderr."""
    with contextlib.suppress(OSError):
        print(f"pyvmm: {text}", file=sys.stderr, flush=True)
