# SPDX-License-Identifier: GPL-2.0-only
"""The hosts of a document with their results, side by side, and against an earlier document."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from pyvmm.lab import causes
from pyvmm.pages.documents import MATRIX, Document, schema
from pyvmm.pages.results import Result, results


@dataclass(frozen=True)
class HostResults:
    """The results on one host.

    Attributes:
        cpu, kernel: its names in tables; "" if the document does not name them.
        facts: labels and texts about the run.
        output: what the command printed; a document if it was JSON.
        stderr: the command's messages.
        error: why the host did not run the command, or "".
    """

    cpu: str
    kernel: str
    facts: tuple[tuple[str, str], ...]
    output: object
    stderr: str = ""
    error: str = ""

    @property
    def name(self) -> str:
        """Return the CPU and the kernel."""
        return ", ".join(filter(None, (self.cpu, self.kernel)))

    @cached_property
    def results(self) -> dict[str, Result]:
        """Return the results by the name of the check."""
        return {} if self.error else results(self.output)


@dataclass(frozen=True)
class Check:
    """A row of the matrix: the results of one check, one per host, or None."""

    name: str
    about: str
    results: tuple[Result | None, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """Return the causes in the row."""
        names = (name for each in self.results if each for name in each.cause.split())
        return tuple(dict.fromkeys(names))

    @property
    def differs(self) -> bool:
        """Return True if the hosts do not have the same result."""
        return len({each and each.short for each in self.results}) > 1


@dataclass(frozen=True)
class Change:
    """A result that an earlier document has otherwise; "" where one lacks it."""

    host: str
    check: str
    before: str
    now: str


@dataclass(frozen=True)
class Comparison:
    """Hosts side by side."""

    hosts: tuple[HostResults, ...]

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Return the rows, in the order of the runs."""
        names: dict[str, str] = {}
        for host in self.hosts:
            for name, result in host.results.items():
                names[name] = names.get(name) or result.about
        return tuple(
            Check(name, about, tuple(host.results.get(name) for host in self.hosts))
            for name, about in names.items()
        )

    @property
    def tones(self) -> Counter[str]:
        """Return the number of results of each tone."""
        return Counter(each.tone for host in self.hosts for each in host.results.values())

    def since(self, earlier: "Comparison") -> list[Change]:
        """Return the results that changed on the hosts that both have."""
        hosts = {host.name: host.results for host in earlier.hosts}
        changes = []
        for host in self.hosts:
            before = hosts.get(host.name)
            for check in {**host.results, **before} if before is not None else ():
                was, now = (
                    each[check].short if check in each else ""
                    for each in (before or {}, host.results)
                )
                if was != now:
                    changes.append(Change(host.name, check, was, now))
        return changes


def compare(document: Document) -> Comparison:
    """Return the hosts of a document: of each run of a matrix, or its only one."""
    if schema(document) != MATRIX:
        return Comparison((HostResults("", "", _host(document), document),))
    runs = document["runs"]
    labels = causes.labels({run["kernel"] for run in runs})
    return Comparison(tuple(_run(run, labels[run["kernel"]]) for run in runs))


def _run(run: Document, label: str) -> HostResults:
    facts = {
        "kernel": run["kernel"],
        "mode of KVM": run["mode"],
        "devices": ", ".join(run["devices"]),
        "exit status": run["status"],
    }
    return HostResults(
        run["cpu"],
        f"{label} {run['mode']}" if run["mode"] else label,
        tuple((name, str(value)) for name, value in facts.items() if value not in ("", None)),
        run["stdout"],
        run["stderr"],
        run["error"] or "",
    )


def _host(document: Document) -> tuple[tuple[str, str], ...]:
    host = document.get("caps", document).get("host", {})
    return tuple((name, str(value)) for name, value in host.items())
