# SPDX-License-Identifier: GPL-2.0-only
"""``--ktap``: results as kernel CI reads them, each module a test with its functions below it.

The format is Documentation/dev-tools/ktap.rst, in the words that kselftest prints.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_INDENT = "  "


@dataclass
class KtapResult:
    """How one test went.

    Attributes:
        number: in its module, from 1.
        directive: SKIP or XFAIL, "" for none, with its reason in `why`.
        why: several lines where it failed.
    """

    number: int
    name: str
    passed: bool | None = None
    directive: str = ""
    why: str = ""

    def lines(self) -> Iterator[str]:
        """What is known of it as diagnostics, then the line that counts."""
        if self.passed is None:
            self.passed, self.why = False, "it was not run: the session ended before"
        if not self.directive:
            yield from (f"# {line}".rstrip() for line in self.why.splitlines())
        verdict = "ok" if self.passed else "not ok"
        because = f" # {self.directive} {' '.join(self.why.split())}" if self.directive else ""
        yield f"{verdict} {self.number} {_plain(self.name)}{because}".rstrip()


class KtapWriter:
    """A plugin that writes the file when the session ends."""

    def __init__(self, config: pytest.Config) -> None:
        self._place = config.option.ktap
        self._modules: dict[str, dict[str, KtapResult]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if self._place == "-":
            # stdout is the document's, so what pytest tells a person goes to stderr.
            session.config.get_terminal_writer()._file = sys.stderr

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._result(report.nodeid, "collection").passed = False
            self._result(report.nodeid, "collection").why = report.longreprtext

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self._result(*_place(item.nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        result = self._result(*_place(report.nodeid))
        if hasattr(report, "wasxfail"):
            result.passed = report.skipped or report.passed
            result.directive, result.why = "XFAIL", str(report.wasxfail)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            result.passed, result.directive = True, "SKIP"
            result.why = reason.removeprefix("Skipped: ")
        elif report.failed:
            result.passed, result.directive, result.why = False, "", report.longreprtext
        elif report.when == "call":
            result.passed = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly:
            return
        text = "\n".join(self._lines()) + "\n"
        if self._place == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            Path(self._place).write_text(text)

    def _result(self, module: str, name: str) -> KtapResult:
        tests = self._modules.setdefault(module, {})
        return tests.setdefault(name, KtapResult(len(tests) + 1, name))

    def _lines(self) -> Iterator[str]:
        yield "KTAP version 1"
        yield f"1..{len(self._modules)}"
        for number, (module, results) in enumerate(self._modules.items(), 1):
            for line in ("KTAP version 1", f"# Subtest: {module}", f"1..{len(results)}"):
                yield _INDENT + line
            for result in results.values():
                yield from (f"{_INDENT}{line}" for line in result.lines())
            all_skipped = all(result.directive == "SKIP" for result in results.values())
            passed = all(result.passed for result in results.values())
            because = " # SKIP every test was" if all_skipped else ""
            yield f"{'ok' if passed else 'not ok'} {number} {_plain(module)}{because}"
        yield _totals(result for tests in self._modules.values() for result in tests.values())


def _totals(results: Iterable[KtapResult]) -> str:
    """kselftest's last line."""
    counts = dict.fromkeys(("pass", "fail", "xfail", "xpass", "skip", "error"), 0)
    for result in results:
        kind = {"SKIP": "skip", "XFAIL": "xfail"}.get(result.directive)
        counts[kind or ("pass" if result.passed else "fail")] += 1
    return f"# Totals: {' '.join(f'{kind}:{count}' for kind, count in counts.items())}"


def _place(nodeid: str) -> tuple[str, str]:
    """The module of a test, and its name there."""
    module, _, name = nodeid.partition("::")
    return module, name or module


def _plain(name: str) -> str:
    """A name without the character that begins a directive."""
    return name.replace("#", "-")
