# SPDX-License-Identifier: GPL-2.0-only
"""Tables on stdout, notes and progress on stderr; colours only on a terminal."""

import io
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pyvmm.errors import LackingError

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough that rich never folds or cuts a row that goes into a pipe or a file.
_UNFOLDED = 1000


def _console() -> "Console":
    """A rich console that writes to memory what suits stdout; `LackingError` without rich.

    It is kept from stdout itself: some versions of rich end the process when a pipe breaks.
    """
    try:
        from rich.console import Console
    except ImportError:
        raise LackingError(
            "tables need the package rich: pip install 'pyvmm[cli]', or ask for --json"
        ) from None
    terminal = sys.stdout.isatty()
    width = None if terminal else _UNFOLDED
    return Console(file=io.StringIO(), force_terminal=terminal, highlight=False, width=width)


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of rich markup under headings, columns aligned, no frame."""
    console = _console()
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        grid.add_column(heading, header_style="dim")
    for row in rows:
        grid.add_row(*(Text.from_markup(cell) for cell in row))
    with console.capture() as capture:
        console.print(grid)
    # rich pads each line to the table's width; a pipe has no use for that.
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def size(count: int) -> str:
    """Bytes for a person: ``512 MiB (0x20000000)``."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >> shift and not count % (1 << shift):
            return f"{count >> shift} {unit} ({count:#x})"
    return f"{count} bytes ({count:#x})"


def note(text: str) -> None:
    """One line on stderr."""
    print(f"pyvmm: {text}", file=sys.stderr, flush=True)
