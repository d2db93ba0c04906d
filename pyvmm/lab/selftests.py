# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's selftests in an emulated host: many tests per boot, a new boot after a death."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyvmm import scratch_dir
from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import lab_devices
from pyvmm.lab.event_lines import EventLines
from pyvmm.lab.host import FILES, Host
from pyvmm.lab.selftest_plan import plan
from pyvmm.lab.selftest_result import Outcome, SelftestResult, judge
from pyvmm.lab.watch import Note

_DIRECTORY = "/run/directory"  # of the programs in the host
_RUNNER = ("python3", "-m", "pyvmm.lab.selftest_runner")
_TRACE = "/tmp/trace"
_TRACED = ("python3", "-m", "pyvmm", "trace", "--summary", "--output", _TRACE, "--")
_BOOT = 180.0  # seconds
_GRACE = 30.0  # seconds more than a test's limit until the host counts as dead
# The suite tests SR-IOV, which vfio-pci leaves off by default.
_APPEND = {"vfio": "vfio_pci.enable_sriov=1"}


def run(
    host: Host,
    suite: str,
    programs: Path,
    names: Sequence[str],
    *,
    timeout: float,
    traced: bool,
    note: Note,
) -> Iterator[SelftestResult]:
    """Run tests of a suite, whose programs are in a directory, and yield a result for each.

    `timeout` is the limit of each test in seconds. Raises `LackingError` if the host fails before
    a test starts.
    """
    append = f"{host.machine.append} {_APPEND.get(suite, '')}".strip()
    host = replace(host, machine=replace(host.machine, append=append))
    devices = [lab_devices.address(1)] if suite == "vfio" else []
    left = list(names)
    while left:
        if reason := plan(left[0]).excluded:
            yield SelftestResult(left.pop(0), Outcome.SKIP, f"excluded: {reason}")
            continue
        before = len(left)
        boot = _Boot(host, programs, left, devices, timeout, traced)
        for result in boot.results():
            left.remove(result.name)
            yield result
        if len(left) == before:
            raise LackingError(f"no test started: {boot.failure}")
        if left:
            note(f"new boot for {len(left)} more tests: {boot.failure}")


def choose(programs: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the tests of these names, with or without their directory. Raises `UsageError`."""
    if not wanted:
        return list(programs)
    chosen = []
    for name in wanted:
        found = [each for each in programs if name in (each, each.rpartition("/")[2])]
        if not found:
            raise UsageError(f"no test {name!r}: this source has {', '.join(programs)}")
        chosen += found
    return chosen


class _Boot:
    """One boot of the host, which runs tests until one of them kills it."""

    def __init__(
        self,
        host: Host,
        programs: Path,
        names: Sequence[str],
        devices: Sequence[str],
        timeout: float,
        traced: bool,
    ) -> None:
        self.failure = ""
        self._host = host
        self._programs = programs
        self._names = [name for name in names if not plan(name).excluded]
        self._arguments = {name: (*plan(name).arguments, *devices) for name in self._names}
        self._timeout = timeout
        self._traced = traced
        self._events: list[dict[str, Any]] = []

    def results(self) -> Iterator[SelftestResult]:
        """Yield the result of each test; the last one may have killed the host."""
        with scratch_dir.create() as scratch:
            job = scratch / "job.json"
            job.write_text(json.dumps({"tests": [self._test(name) for name in self._names]}))
            errors = io.BytesIO()
            with replace(self._host, files=(*self._host.files, job)).boot(
                [*_RUNNER, str(FILES / job.name)],
                stdout=EventLines(self._events.append),
                stderr=errors,
                directory=self._programs,
            ) as running:
                current, output = "", ""
                limit = _BOOT
                while True:
                    if not self._events and not running.relay(lambda: bool(self._events), limit):
                        break
                    event = self._events.pop(0)
                    if event["event"] == "start":
                        current, output = event["name"], ""
                        limit = self._timeout + _GRACE
                    elif event["event"] == "output":
                        output += event["text"]
                    else:
                        yield self._result(event, output)
                        current = ""
                try:
                    status = running.wait()
                    lines = errors.getvalue().decode(errors="replace").splitlines()
                    self.failure = f"the runner exited with status {status}"
                    self.failure += f": {lines[-1]}" if lines else ""
                except LackingError as error:
                    self.failure = str(error)
                if current:
                    log = running.console().splitlines()
                    yield self._died(current, output, log)

    def _test(self, name: str) -> dict[str, Any]:
        command = [f"{_DIRECTORY}/{name}", *self._arguments[name]]
        return {
            "name": name,
            "command": [*_TRACED, *command] if self._traced else command,
            "timeout": self._timeout,
            "trace": _TRACE if self._traced else None,
        }

    def _result(self, event: dict[str, Any], output: str) -> SelftestResult:
        name = event["name"]
        if event["event"] == "stuck":
            outcome, reason = Outcome.TIMEOUT, f"killed after {self._timeout:g} s, but did not end"
        elif not event["in_time"]:
            outcome, reason = Outcome.TIMEOUT, f"did not end within {self._timeout:g} s"
        else:
            outcome, reason = judge(event["status"], output)
        return SelftestResult(
            name,
            outcome,
            reason,
            self._arguments[name],
            plan(name).reduced,
            event.get("seconds", self._timeout),
            output,
            tuple(event["log"]),
            event.get("trace", ""),
        )

    def _died(self, name: str, output: str, log: Sequence[str]) -> SelftestResult:
        reason = self.failure.partition("; see the console log")[0]
        return SelftestResult(
            name,
            Outcome.HOST,
            reason,
            self._arguments[name],
            plan(name).reduced,
            output=output,
            log=tuple(log),
        )
