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
        from rich.progress import (
            BarColumn,
            Progress,
            TaskID,
            TaskProgressColumn,
            TimeElapsedColumn,
        )
    except ImportError:
        yield _lines()
        return
    terminal = Console(file=sys.stderr)
    if not terminal.is_terminal:
        yield _lines()
        return
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def complete() -> None:
            for task in tasks.values():
                bars.update(task, completed=1.0, total=1.0)

        def report(step: str, done: float | None) -> None:
            if step not in tasks:
                complete()
                tasks[step] = bars.add_task(step, total=None if done is None else 1.0)
            bars.update(tasks[step], completed=done or 0.0)

        yield report
        complete()


def _lines() -> Callable[[str, float | None], None]:
    current = ""

    def report(step: str, done: float | None) -> None:
        nonlocal current
        if step != current:
            output.note(step)
            current = step

    return report
