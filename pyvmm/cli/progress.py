# SPDX-License-Identifier: GPL-2.0-only
"""Progress of long operations on stderr: a bar on a terminal, otherwise one line per step."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from pyvmm.cli import output


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, float | None], None]]:
    """Yield a function to report progress with: the current step, and its done fraction (0 to 1).

    The fraction is None where the total is unknown.
    """
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
        current = ""

        def report(step: str, done: float | None) -> None:
            nonlocal task, current
            if task is None or step != current:
                if task is not None:
                    bars.update(task, completed=1.0, total=1.0)
                task = bars.add_task(step, total=1.0 if done is not None else None)
                current = step
            bars.update(task, completed=done or 0.0)

        yield report
        if task is not None:
            bars.update(task, completed=1.0, total=1.0)


def _lines() -> Callable[[str, float | None], None]:
    current = ""

    def report(step: str, done: float | None) -> None:
        nonlocal current
        if step != current:
            output.note(step)
            current = step

    return report
