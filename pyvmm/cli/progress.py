# SPDX-License-Identifier: GPL-2.0-only
"""Progress of long work on stderr: a bar on a terminal, else a line a step."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from pyvmm.cli import output


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, float | None], None]]:
    """Yields what long work tells of itself: what it does, and how much is done (0 to 1)."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn
    except ImportError:
        yield _lines()
        return
    terminal = Console(file=sys.stderr)
    if not terminal.is_terminal:
        yield _lines()
        return
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal) as bars:
        task = None
        doing = ""

        def tell(what: str, done: float | None) -> None:
            nonlocal task, doing
            if task is None or what != doing:
                if task is not None:
                    bars.update(task, completed=1.0, total=1.0)
                task = bars.add_task(what, total=1.0 if done is not None else None)
                doing = what
            bars.update(task, completed=done or 0.0)

        yield tell
        if task is not None:
            bars.update(task, completed=1.0, total=1.0)


def _lines() -> Callable[[str, float | None], None]:
    said = ""

    def tell(what: str, done: float | None) -> None:
        nonlocal said
        if what != said:
            output.note(what)
            said = what

    return tell
