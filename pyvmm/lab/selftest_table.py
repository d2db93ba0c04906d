# SPDX-License-Identifier: GPL-2.0-only
"""The results of selftests on several hosts: saved, as a JSON document, and as a table."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyvmm.errors import LackingError
from pyvmm.lab.host import Host
from pyvmm.lab.selftest_plan import plan
from pyvmm.lab.selftest_result import Outcome, SelftestResult

_SHORT = {Outcome.PASS: "pass", Outcome.SKIP: "skip", Outcome.FAIL: "FAIL", Outcome.TIMEOUT: "time"}


@dataclass(frozen=True)
class SelftestRow:
    """The results of a suite on a host.

    Attributes:
        error: why the host ran no test; empty if it did.
    """

    suite: str
    host: Host
    results: tuple[SelftestResult, ...] = ()
    error: str = ""

    @property
    def name(self) -> str:
        """Return the name of the host: CPU, kernel, mode of KVM, devices."""
        machine = self.host.machine
        devices = (device.name for device in machine.devices)
        return ", ".join(filter(None, (machine.cpu, self.host.kernel.name, machine.mode, *devices)))


def resume(
    saved: Path, names: Sequence[str], run: Callable[[Sequence[str]], Iterable[SelftestResult]]
) -> Iterator[SelftestResult]:
    """Yield the saved results of the tests `names`, then those of `run`, and save each.

    `run` runs the tests that have no saved result.
    """
    done = {result.name: result for result in load(saved)} if saved.exists() else {}
    yield from [done[name] for name in names if name in done]
    for result in run([name for name in names if name not in done]):
        done[result.name] = result
        save(tuple(done.values()), saved)
        yield result


def save(results: Sequence[SelftestResult], path: Path) -> None:
    """Save results for `load`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(result) for result in results]))
    partial.rename(path)


def load(path: Path) -> tuple[SelftestResult, ...]:
    """Return saved results. Raises `LackingError` if the file is damaged."""
    try:
        return tuple(_of_fields(each) for each in json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise LackingError(f"{path} has no results of lab selftests: remove it") from None


def _of_fields(fields: dict[str, Any]) -> SelftestResult:
    converted = {
        "outcome": Outcome(fields["outcome"]),
        "arguments": tuple(fields["arguments"]),
        "log": tuple(fields["log"]),
    }
    return SelftestResult(**fields | converted)


def document(rows: Sequence[SelftestRow]) -> dict[str, Any]:
    """Return the results as a ``pyvmm.lab.selftests/1`` document."""
    return {
        "schema": "pyvmm.lab.selftests/1",
        "runs": [
            {
                "suite": row.suite,
                "cpu": row.host.machine.cpu,
                "kernel": row.host.kernel.name,
                "mode": row.host.machine.mode,
                "devices": [device.name for device in row.host.machine.devices],
                "error": row.error or None,
                "tests": [asdict(result) for result in row.results],
            }
            for row in rows
        ],
    }


def markdown(rows: Sequence[SelftestRow]) -> str:
    """Return a table in Markdown for each suite: a test per line, a host per column.

    The last column has the arguments, and why the test passes on no host.
    """
    parts = []
    for suite in dict.fromkeys(row.suite for row in rows):
        hosts = [row for row in rows if row.suite == suite and not row.error]
        failed = [f"{row.name}: {row.error}" for row in rows if row.suite == suite and row.error]
        columns = [{result.name: result for result in row.results} for row in hosts]
        names = list(dict.fromkeys(name for column in columns for name in column))
        passed = [name for name in names if any(map(_passes, _of(columns, name)))]
        lines = [
            [suite, *(_with_breaks(row.name) for row in hosts), "arguments; why it never passes"]
        ]
        lines.append(["---"] * len(lines[0]))
        for name in names:
            cells = [_cell(column.get(name)) for column in columns]
            lines.append([f"`{name}`", *cells, _remark(name, _of(columns, name))])
        counts = [str(sum(map(_passes, row.results))) for row in hosts]
        lines.append([f"passes: {len(passed)} of {len(names)}", *counts, ""])
        parts += ["\n".join(f"| {' | '.join(line)} |" for line in lines), *failed]
    return "\n\n".join(parts)


def _of(columns: Sequence[dict[str, SelftestResult]], name: str) -> list[SelftestResult]:
    return [column[name] for column in columns if name in column]


def _passes(result: SelftestResult) -> bool:
    return result.outcome is Outcome.PASS


def _cell(result: SelftestResult | None) -> str:
    return _SHORT.get(result.outcome, str(result.outcome)) if result else ""


def _remark(name: str, results: Sequence[SelftestResult]) -> str:
    """Return the arguments of a test, and the reason if it passes on no host."""
    remarks = [f"`{' '.join(plan(name).arguments)}`"] if plan(name).arguments else []
    if not any(map(_passes, results)):
        reasons = dict.fromkeys(result.reason for result in results)
        remarks.append(plan(name).note or "; ".join(reasons))
    return ": ".join(remarks).replace("|", r"\|")


def _with_breaks(name: str) -> str:
    return name.replace(", ", "<br>")
