# SPDX-License-Identifier: GPL-2.0-only
"""The option ``--ktap``: test results for kernel CI, with each module's tests as its subtests.

The format is that of `pyvmm.ktap`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyvmm import ktap
from pyvmm.testing.distribution import without_group


@dataclass
class KtapResult:
    """The result of one test.

    Attributes:
        number: its number in the module, from 1.
        passed: None until the test ends.
        directive: "SKIP", "XFAIL" or "".
        reason: the directive's reason, or the lines of the failure.
    """

    number: int
    name: str
    passed: bool | None = None
    directive: str = ""
    reason: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the diagnostic lines, then the result line."""
        if self.passed is None:
            self.passed, self.reason = False, "not run: the session ended early"
        if not self.directive:
            yield from ktap.diagnostics(self.reason)
        yield ktap.result(self.passed, self.number, self.name, self.directive, self.reason)

    @property
    def kind(self) -> str:
        """Return the kind of the result in the totals line."""
        return self.directive.lower() or ("pass" if self.passed else "fail")


class KtapWriter:
    """A plugin that writes the KTAP file when the session ends."""

    def __init__(self, config: pytest.Config) -> None:
        """Write to the path in ``--ktap``, or to stdout if it is "-"."""
        self._path = config.option.ktap
        self._config = config
        self._modules: dict[str, dict[str, KtapResult]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Redirect pytest's own output to stderr if the KTAP goes to stdout."""
        if self._path == "-":
            session.config.get_terminal_writer()._file = sys.stderr

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a module that cannot be imported."""
        if report.failed:
            result = self._result(report.nodeid, "collection")
            result.passed, result.reason = False, report.longreprtext

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Assign numbers to the tests."""
        self._number([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Assign numbers to the tests that a worker collected: each collects the same."""
        self._number(without_group(self._config, nodeid) for nodeid in ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result of a test."""
        result = self._result(*_split(report.nodeid))
        if hasattr(report, "wasxfail"):
            result.passed = report.skipped or report.passed
            result.directive, result.reason = "XFAIL", str(report.wasxfail)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            result.passed, result.directive = True, "SKIP"
            result.reason = reason.removeprefix("Skipped: ")
        elif report.failed:
            result.passed, result.directive, result.reason = False, "", report.longreprtext
        elif report.when == "call":
            result.passed = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file."""
        if session.config.option.collectonly:
            return
        text = "\n".join(self._lines()) + "\n"
        if self._path == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            Path(self._path).write_text(text)

    def _number(self, nodeids: Iterable[str]) -> None:
        for nodeid in nodeids:
            self._result(*_split(nodeid))

    def _result(self, module: str, name: str) -> KtapResult:
        tests = self._modules.setdefault(module, {})
        return tests.setdefault(name, KtapResult(len(tests) + 1, name))

    def _lines(self) -> Iterator[str]:
        yield ktap.VERSION
        yield f"1..{len(self._modules)}"
        for number, (module, results) in enumerate(self._modules.items(), 1):
            for line in (ktap.VERSION, f"# Subtest: {module}", f"1..{len(results)}"):
                yield ktap.INDENT + line
            for result in results.values():
                yield from (f"{ktap.INDENT}{line}" for line in result.lines())
            all_skipped = all(result.directive == "SKIP" for result in results.values())
            passed = all(result.passed for result in results.values())
            directive, reason = ("SKIP", "all tests were skipped") if all_skipped else ("", "")
            yield ktap.result(passed, number, module, directive, reason)
        yield ktap.totals(each.kind for tests in self._modules.values() for each in tests.values())


def _split(nodeid: str) -> tuple[str, str]:
    """Return the module of a test and its name in the module."""
    module, _, name = nodeid.partition("::")
    return module, name or module
