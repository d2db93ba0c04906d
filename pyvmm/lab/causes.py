# SPDX-License-Identifier: GPL-2.0-only
"""CAUSES.md: the results of ``provoke --json`` on a matrix of hosts, as Markdown.

``python -m pyvmm.lab.causes FILE…`` reads documents of ``lab matrix --json`` and prints the page.
Hosts with equal results share a row.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pyvmm.errors import Status, UsageError, as_command

MATRIX_SCHEMA = "pyvmm.lab.matrix/1"
PROVOKE_SCHEMA = "pyvmm.provoke/1"
_INTRODUCTION = """\
# Causes of faults

Every cause that pyvmm can name, provoked on real kernels. `make causes` runs
`provoke --all --provenance` in the emulated arm64 host, on each kernel and CPU, and writes this
page. Provocations that crash the host are left out: `provoke --list` shows them.

The last column names the kernels and CPUs. neoverse-n1 has neither FWB nor DIC, max has both, and
max+mte has memory tags too. A kernel whose name ends in 16k has pages of 16 KiB. The lab's kernel
also runs KVM in protected mode, on a host of 448 MiB.

"No fault" means that the kernel resolves the access by itself, or that the CPU or device does not
fault: the cause's column then says which do not.
"""
_HEADINGS = ("provoked by", "the kernel gave", "cause", "fix", "the guest", "on")
_PATHS = """
## The kernel's own path

What ftrace shows of the kernel's functions at each failure, the innermost last, and the lines that
it logged. Rules on this evidence alone name the causes a second time, and each row above is
compared with them: the cause, and the guest's address and PC.
"""
_LOG_LINES = 2
_SKIPPED = "skipped: "

Result: TypeAlias = Mapping[str, Any]  # an element of "provoked"


@dataclass(frozen=True, order=True)
class HostName:
    """A host in tables: its CPU, and the label of its kernel and KVM mode."""

    cpu: str
    kernel: str


@dataclass(frozen=True)
class HostRun:
    """A run of the matrix.

    Attributes:
        release: the kernel's full name.
        results: the results by the provocation's name, in the order of the run.
        error: why there are none.
    """

    host: HostName
    release: str
    devices: Sequence[str]
    results: Mapping[str, Result]
    error: str


def page(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return CAUSES.md for ``lab matrix`` documents. Raises `UsageError` if one is no such."""
    runs = _runs(documents)
    names = dict.fromkeys(name for run in runs for name in run.results)
    rows = [row for name in names for row in _rows(name, runs, _how, columns)]
    paths = [row for name in names for row in _rows(name, runs, _name, _path)]
    parts = [
        _INTRODUCTION,
        "## Causes\n",
        _table(_HEADINGS, rows),
        *((_PATHS, _table(("provoked", "the kernel's path", "on"), paths)) if paths else ()),
        "\n## Differences\n",
        *_differences(names, runs),
        "\n## Runs\n",
        _table(*_summary(runs)),
    ]
    return "\n".join(parts) + "\n"


def _runs(documents: Iterable[Mapping[str, Any]]) -> list[HostRun]:
    cells = []
    for document in documents:
        if document.get("schema") != MATRIX_SCHEMA:
            raise UsageError(f"not a {MATRIX_SCHEMA} document: pass files of lab matrix --json")
        cells += document["runs"]
    names = labels({cell["kernel"] for cell in cells})
    return [_run(cell, names[cell["kernel"]]) for cell in cells]


def _run(cell: Mapping[str, Any], label: str) -> HostRun:
    document, error = cell["stdout"], cell["error"] or ""
    if not isinstance(document, dict) or document.get("schema") != PROVOKE_SCHEMA:
        document = {"provoked": []}
        error = error or f"no {PROVOKE_SCHEMA} document, exit status {cell['status']}"
    return HostRun(
        host=HostName(cell["cpu"], f"{label} {cell['mode']}" if cell["mode"] else label),
        release=cell["kernel"],
        devices=cell["devices"],
        results={each["name"]: each for each in document["provoked"]},
        error=error,
    )


def labels(releases: Collection[str]) -> dict[str, str]:
    """Return a short name for each kernel, if that is unique: "6.12-16k" for Debian's 6.12.107."""
    labels = {name: re.sub(r"^debian-(\d+\.\d+).*?(-16k)?$", r"\1\2", name) for name in releases}
    return {
        name: label if list(labels.values()).count(label) == 1 else name
        for name, label in labels.items()
    }


def _rows(
    name: str,
    runs: Sequence[HostRun],
    title: Callable[[Result], str],
    cells_of: Callable[[Result], tuple[str, ...]],
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each different result of a provocation, the most frequent one first.

    Hosts on which it was skipped are the last ones.
    """
    hosts: dict[tuple[str, ...], list[HostName]] = defaultdict(list)
    first = ""
    for run in runs:
        if (result := run.results.get(name)) and (cells := cells_of(result)):
            first = title(result)
            hosts[cells].append(run.host)
    by_count = sorted(hosts.items(), key=lambda item: -len(item[1]))
    for cells, on in sorted(by_count, key=lambda item: item[0][0].startswith(_SKIPPED)):
        yield (first, *cells, where(on, [run.host for run in runs]))
        first = ""


def _name(result: Result) -> str:
    return f"`{result['name']}`"


def _how(result: Result) -> str:
    return f"{result['how']} ({_name(result)})"


def columns(result: Result) -> tuple[str, ...]:
    """Return what the kernel gave, the cause, the fix, and what the guest noticed."""
    if result["skipped"]:
        return (_SKIPPED + result["skipped"], "", "", "")
    fault, cause = result["fault"] or {}, result["cause"] or ""
    if result["mark"]:
        cause += f", {result['mark']}"
    if not result["as_expected"]:
        cause += f" (expected: {result['expected'] or 'no fault'})"
    elif result["cause"] is None and result["expected"]:
        cause += f"(resolved by {result['resolved_by']})"
    source = "; address reconstructed" if fault.get("source") == "reconstructed" else ""
    fix = fault.get("fix") or ("emulate" if result["rejected"] else "")
    if fault and fault["outcome"] != "resolved":
        fix += f": {fault['outcome']}"
    return (result["kernel"] + source, cause.strip(), fix, result["guest"])


def _path(result: Result) -> tuple[str, ...]:
    """Return the kernel's path to the failure, or nothing if it was not recorded."""
    if not result.get("provenance"):
        return ()
    chain, *log = result["provenance"]["short"].split("; log: ")
    if len(log) > _LOG_LINES:  # the kernel's report on the memory of a control group
        log = []
    return ("; log: ".join((chain, *log)),)


def where(hosts: Collection[HostName], of: Collection[HostName]) -> str:
    """Return a short description of the `hosts` among all those `of` the matrix."""
    kernels = {cpu: [each.kernel for each in hosts if each.cpu == cpu] for cpu in _cpus(of)}
    everywhere = {cpu: [each.kernel for each in of if each.cpu == cpu] for cpu in _cpus(of)}
    texts = {cpu: _kernels(kernels[cpu], everywhere[cpu]) for cpu in kernels if kernels[cpu]}
    if len(texts) == len(everywhere) and len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(cpu if text == "all" else f"{cpu}: {text}" for cpu, text in texts.items())


def _cpus(hosts: Iterable[HostName]) -> list[str]:
    return list(dict.fromkeys(host.cpu for host in hosts))


def _kernels(kernels: Sequence[str], of: Sequence[str]) -> str:
    others = [kernel for kernel in of if kernel not in kernels]
    if not others:
        return "all"
    if 2 * len(others) < len(kernels):
        return f"all but {', '.join(others)}"
    return ", ".join(kernels)


def difference(result: Result) -> str:
    """Return how a result differs from the expected cause and the kernel's path, or ""."""
    points = list(result.get("disagreements", ()))
    if not result["as_expected"]:
        found, expected = (result[key] or "no fault" for key in ("cause", "expected"))
        points.insert(0, f"{found} instead of {expected} ({result['kernel']})")
    return "; ".join(points)


def _differences(names: Iterable[str], runs: Sequence[HostRun]) -> Iterator[str]:
    """Yield a line for each difference of a provocation, with its hosts."""
    found = False
    for name in names:
        hosts: dict[str, list[HostName]] = defaultdict(list)
        for run in runs:
            if (result := run.results.get(name)) and (text := difference(result)):
                hosts[text].append(run.host)
        for text, on in hosts.items():
            found = True
            yield f"* `{name}`: {text}, on {where(on, [run.host for run in runs])}"
    if not found:
        yield "None: each cause is the expected one, and agrees with each recorded path."


def _summary(runs: Sequence[HostRun]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of a table of the runs, with their totals in the last row."""
    counts = ("provoked", "as expected", "path recorded", "path agrees", "skipped")
    totals = dict.fromkeys(counts, 0)
    rows = []
    for run in runs:
        provoked = [each for each in run.results.values() if not each["skipped"]]
        recorded = [each for each in provoked if each.get("provenance")]
        numbers = {
            "provoked": len(provoked),
            "as expected": sum(each["as_expected"] for each in provoked),
            "path recorded": len(recorded),
            "path agrees": sum(not each["disagreements"] for each in recorded),
            "skipped": len(run.results) - len(provoked),
        }
        for key, number in numbers.items():
            totals[key] += number
        named = (run.host.kernel, run.release.removeprefix("debian-"), run.host.cpu)
        cells = [str(numbers[key]) for key in counts]
        rows.append((*named, ", ".join(run.devices), *cells, run.error))
    rows.append((f"{len(runs)} runs", *[""] * 3, *[str(totals[key]) for key in counts], ""))
    return ("kernel", "release", "CPU", "devices", *counts, "error"), rows


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


@as_command()
def main(argv: Sequence[str] | None = None) -> int:
    """Print the page and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pyvmm.lab.causes", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    documents = []
    for file in parser.parse_args(argv).files:
        try:
            documents.append(json.loads(file.read_text()))
        except ValueError as error:
            raise UsageError(f"{file} is not JSON: {error}") from None
    sys.stdout.write(page(documents))
    return Status.DONE


if __name__ == "__main__":
    sys.exit(main())
