# SPDX-License-Identifier: GPL-2.0-only
"""One command on many emulated hosts: CPUs by kernels, as many at once as there are cores."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from pyvmm.errors import PyvmmError
from pyvmm.lab.apt import Progress
from pyvmm.lab.host import Host


@dataclass(frozen=True)
class Cell:
    """How the command went on one CPU and kernel; ``error`` is of the host, not the command."""

    cpu: str
    kernel: str
    status: int
    stdout: str
    stderr: str
    error: str = ""

    @property
    def output(self) -> Any:
        """What the command wrote on stdout: read as JSON if it is, else its text."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return self.stdout


def run(
    hosts: Mapping[tuple[str, str], Host],
    command: Sequence[str],
    timeout: float | None,
    progress: Progress,
) -> list[Cell]:
    """Run a command on each host, known by (CPU, kernel); a host that fails is a cell too."""

    def one(cpu: str, kernel: str) -> Cell:
        stdout, stderr = io.BytesIO(), io.BytesIO()
        error = ""
        try:
            host = hosts[cpu, kernel]
            status = host.run(command, stdout=stdout, stderr=stderr, timeout=timeout)
        except PyvmmError as failure:
            status, error = failure.status, str(failure)
        said, noted = (each.getvalue().decode(errors="replace") for each in (stdout, stderr))
        return Cell(cpu, kernel, status, said, noted, error)

    # Each host has two CPUs, yet one of them is mostly idle.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(one, *place): place for place in hosts}
        for done, future in enumerate(as_completed(running), 1):
            progress(f"{len(hosts)} runs", done / len(hosts))
            future.result()
        return [future.result() for future in running]


def document(cells: Sequence[Cell], command: Sequence[str]) -> dict[str, Any]:
    """The matrix for scripts."""
    return {
        "schema": "pyvmm.lab.matrix/1",
        "command": list(command),
        "runs": [
            {
                "cpu": cell.cpu,
                "kernel": cell.kernel,
                "status": cell.status,
                "error": cell.error or None,
                "stdout": cell.output,
                "stderr": cell.stderr,
            }
            for cell in cells
        ],
    }


def table(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: a row a CPU and kernel, and what its command has to say.

    Of a report with verdicts that is the ones in which the runs differ, and why the first of
    them is as it is; of anything else the last line.
    """
    verdicts = [_verdicts(cell) for cell in cells]
    names = dict.fromkeys(name for each in verdicts for name in each)
    answers = {name: {each[name][0] for each in verdicts if name in each} for name in names}
    shown = [name for name in names if len(answers[name]) > 1] or list(names)[:1]
    rows = []
    for cell, each in zip(cells, verdicts, strict=True):
        if each and not cell.error:
            told = [each[name][0] for name in shown] + [each[shown[0]][1]]
        else:
            lines = (cell.error or cell.stdout.strip() or cell.stderr.strip()).splitlines()
            told = [""] * len(shown) + [lines[-1] if lines else ""]
        rows.append([cell.cpu, cell.kernel, str(cell.status), *told])
    return ["cpu", "kernel", "status", *shown, "why" if shown else "output"], rows


def markdown(cells: Sequence[Cell]) -> str:
    """The table for a mail or an issue."""
    headings, rows = table(cells)
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def _verdicts(cell: Cell) -> dict[str, tuple[str, str]]:
    """A caps report's verdicts by name: "yes" or "no", and why."""
    output = cell.output
    if not isinstance(output, dict):
        return {}
    return {
        verdict["name"]: ("yes" if verdict["supported"] else "no", verdict["why"])
        for verdict in output.get("verdicts", [])
    }
