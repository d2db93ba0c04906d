# SPDX-License-Identifier: GPL-2.0-only
"""Runs of one command on several emulated hosts in parallel."""

import hashlib
import io
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyvmm import kcidb
from pyvmm.errors import LackingError, PyvmmError, Status
from pyvmm.kcidb import KcidbTest
from pyvmm.lab.apt import Progress
from pyvmm.lab.host import Host


@dataclass(frozen=True)
class Cell:
    """The result of the command on one host.

    Attributes:
        error: why the host failed; empty if the command ran.
        mode: the mode of KVM, or None for the kernel's default.
        devices: the names of the host's devices.
    """

    cpu: str
    kernel: str
    status: int
    stdout: str
    stderr: str
    error: str = ""
    mode: str | None = None
    devices: tuple[str, ...] = ()

    @property
    def output(self) -> Any:
        """Return stdout, parsed if it is JSON."""
        try:
            return json.loads(self.stdout)
        except (ValueError, RecursionError):
            return self.stdout

    @property
    def has_valid_types(self) -> bool:
        """Return False if a field of a saved cell has a wrong type."""
        texts = (self.cpu, self.kernel, self.stdout, self.stderr, self.error, self.mode or "")
        return isinstance(self.status, int) and all(
            isinstance(text, str) for text in (*texts, *self.devices)
        )


def run(
    hosts: Sequence[Host],
    command: Sequence[str],
    timeout: float | None,
    progress: Progress,
    resume: Path | None = None,
    jobs: int | None = None,
) -> list[Cell]:
    """Run a command on each host and return a cell for each.

    `timeout` is in seconds from power-on. `jobs` hosts run at once, by default one per core. With
    `resume`, save each cell in that directory, and do not run the command again on hosts with a
    saved cell. A host that failed, or lacked something, has no saved cell.
    """

    def run_on(host: Host) -> Cell:
        saved = resume and resume / file_name(host, command)
        if saved and saved.exists():
            return _load(saved)
        cell = boot(host)
        if saved and cell.status in (Status.DONE, Status.FAILED):
            saved.parent.mkdir(parents=True, exist_ok=True)
            partial = saved.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(cell)))
            partial.rename(saved)
        return cell

    def boot(host: Host) -> Cell:
        stdout, stderr = io.BytesIO(), io.BytesIO()
        error = ""
        try:
            status = host.run(command, stdout=stdout, stderr=stderr, timeout=timeout)
        except PyvmmError as failure:
            status, error = failure.status, str(failure)
        output, errors = (each.getvalue().decode(errors="replace") for each in (stdout, stderr))
        machine = host.machine
        devices = tuple(device.name for device in machine.devices)
        return Cell(
            machine.cpu, host.kernel.name, status, output, errors, error, machine.mode, devices
        )

    # A host has two CPUs, but one of them is mostly idle.
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        running = [pool.submit(run_on, host) for host in hosts]
        for done, future in enumerate(as_completed(running), 1):
            progress(f"running on {len(hosts)} hosts", done / len(hosts))
            future.result()
        return [future.result() for future in running]


def file_name(host: Host, command: Sequence[str]) -> str:
    """Return the name of a saved cell, which depends on the host and the command."""
    machine = host.machine
    identity = repr((machine, host.kernel, list(command)))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    name = "-".join((machine.cpu, host.kernel.name, machine.mode or "default", digest))
    return re.sub(r"[^\w.+=-]+", "_", name) + ".json"


def _load(saved: Path) -> Cell:
    """Return a saved cell. Raises `LackingError` if the file is damaged."""
    try:
        fields = json.loads(saved.read_text())
        cell = Cell(**fields | {"devices": tuple(fields["devices"])})
    except (ValueError, TypeError, KeyError, RecursionError):
        cell = None
    if cell is None or not cell.has_valid_types:
        raise LackingError(f"{saved} has no result of lab matrix: remove it")
    return cell


def kcidb_tests(cells: Iterable[Cell], command: Sequence[str]) -> Iterator[KcidbTest]:
    """Yield a test for each cell, or one for each cause that it provoked."""
    for cell in cells:
        misc = {
            "cpu": cell.cpu,
            "mode": cell.mode,
            "devices": list(cell.devices),
            "command": shlex.join(command),
            "error": cell.error or None,
        }
        test = KcidbTest(
            kernel=cell.kernel,
            path=["pyvmm", *command[:1]],
            status=kcidb.STATUSES.get(cell.status, "ERROR"),
            comment=f"pyvmm {shlex.join(command)}",
            misc=misc,
            log="" if cell.status == Status.DONE else cell.error or cell.stderr,
        )
        provoked = cell.output.get("provoked") if isinstance(cell.output, dict) else None
        if not provoked:
            yield test
        for each in provoked or ():
            yield replace(
                test,
                path=["pyvmm", "provoke", each["name"]],
                status="SKIP" if each["skipped"] else "PASS" if each["as_expected"] else "FAIL",
                comment=each["how"],
                misc=misc | {"cause": each["cause"], "skipped": each["skipped"]},
                log="\n".join(each["disagreements"]),
            )


def document(cells: Sequence[Cell], command: Sequence[str]) -> dict[str, Any]:
    """Return the results as a ``pyvmm.lab.matrix/1`` document."""
    return {
        "schema": "pyvmm.lab.matrix/1",
        "command": list(command),
        "runs": [
            {
                "cpu": cell.cpu,
                "kernel": cell.kernel,
                "mode": cell.mode,
                "devices": list(cell.devices),
                "status": cell.status,
                "error": cell.error or None,
                "stdout": cell.output,
                "stderr": cell.stderr,
            }
            for cell in cells
        ],
    }


def table(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows, one row for each host.

    For ``caps --json``, a row has the verdicts that differ between the runs, and the reason for
    the first of them. For other commands it has the last line of output.
    """
    verdicts = [_verdicts(cell) for cell in cells]
    names = dict.fromkeys(name for each in verdicts for name in each)
    answers = {name: {each[name][0] for each in verdicts if name in each} for name in names}
    shown = [name for name in names if len(answers[name]) > 1] or list(names)[:1]
    with_modes = any(cell.mode for cell in cells)
    rows = []
    for cell, each in zip(cells, verdicts, strict=True):
        if each and not cell.error:
            answered = [each.get(name, ("", "")) for name in shown]
            columns = [answer for answer, _ in answered] + [answered[0][1]]
        else:
            lines = (cell.error or cell.stdout.strip() or cell.stderr.strip()).splitlines()
            columns = [""] * len(shown) + [lines[-1] if lines else ""]
        modes = [cell.mode or "default"] if with_modes else []
        rows.append([cell.cpu, cell.kernel, *modes, str(cell.status), *columns])
    modes = ["mode"] if with_modes else []
    return ["cpu", "kernel", *modes, "status", *shown, "why" if shown else "output"], rows


def markdown(cells: Sequence[Cell]) -> str:
    """Return the table in Markdown."""
    headings, rows = table(cells)
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def _verdicts(cell: Cell) -> dict[str, tuple[str, str]]:
    """Return the verdicts of a caps report by name: "yes" or "no", and the reason.

    The output of another command has none.
    """
    try:
        return {
            str(verdict["name"]): ("yes" if verdict["supported"] else "no", str(verdict["why"]))
            for verdict in cell.output["verdicts"]
        }
    except (TypeError, KeyError):
        return {}
