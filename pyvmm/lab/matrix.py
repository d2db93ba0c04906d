# SPDX-License-Identifier: GPL-2.0-only
"""Runs of one command on several emulated hosts, as many in parallel as this machine has cores."""

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
    """The result of the command on one CPU and kernel.

    Attributes:
        error: why the host failed; empty if the command ran.
    """

    cpu: str
    kernel: str
    status: int
    stdout: str
    stderr: str
    error: str = ""

    @property
    def output(self) -> Any:
        """Return stdout, parsed if it is JSON."""
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
    """Run a command on each host, by (CPU, kernel), and return a cell for each.

    `timeout` is in seconds from power-on.
    """

    def run_on(cpu: str, kernel: str) -> Cell:
        stdout, stderr = io.BytesIO(), io.BytesIO()
        error = ""
        try:
            host = hosts[cpu, kernel]
            status = host.run(command, stdout=stdout, stderr=stderr, timeout=timeout)
        except PyvmmError as failure:
            status, error = failure.status, str(failure)
        output, errors = (each.getvalue().decode(errors="replace") for each in (stdout, stderr))
        return Cell(cpu, kernel, status, output, errors, error)

    # One host per core, although each has two CPUs: one of them is mostly idle.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(run_on, *key) for key in hosts]
        for done, future in enumerate(as_completed(running), 1):
            progress(f"running on {len(hosts)} hosts", done / len(hosts))
            future.result()
        return [future.result() for future in running]


def document(cells: Sequence[Cell], command: Sequence[str]) -> dict[str, Any]:
    """Return the results as a ``pyvmm.lab.matrix/1`` document."""
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
    """Return headings and rows, one row for each CPU and kernel.

    For ``caps --json``, a row has the verdicts that differ between the runs, and the reason for
    the first of them. For other commands it has the last line of output.
    """
    verdicts = [_verdicts(cell) for cell in cells]
    names = dict.fromkeys(name for each in verdicts for name in each)
    answers = {name: {each[name][0] for each in verdicts if name in each} for name in names}
    shown = [name for name in names if len(answers[name]) > 1] or list(names)[:1]
    rows = []
    for cell, each in zip(cells, verdicts, strict=True):
        if each and not cell.error:
            columns = [each[name][0] for name in shown] + [each[shown[0]][1]]
        else:
            lines = (cell.error or cell.stdout.strip() or cell.stderr.strip()).splitlines()
            columns = [""] * len(shown) + [lines[-1] if lines else ""]
        rows.append([cell.cpu, cell.kernel, str(cell.status), *columns])
    return ["cpu", "kernel", "status", *shown, "why" if shown else "output"], rows


def markdown(cells: Sequence[Cell]) -> str:
    """Return the table in Markdown."""
    headings, rows = table(cells)
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def _verdicts(cell: Cell) -> dict[str, tuple[str, str]]:
    """Return the verdicts of a caps report by name: "yes" or "no", and the reason."""
    output = cell.output
    if not isinstance(output, dict):
        return {}
    return {
        verdict["name"]: ("yes" if verdict["supported"] else "no", verdict["why"])
        for verdict in output.get("verdicts", [])
    }
