# SPDX-License-Identifier: GPL-2.0-only
"""The option ``--kcidb``: test results for the database of kernel CI."""

import json
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from pyvmm import kcidb
from pyvmm.testing.board_protocol import Board
from pyvmm.testing.distribution import without_group


class KcidbWriter:
    """A plugin that writes the document when the session ends."""

    def __init__(self, config: pytest.Config, board_of: Callable[[str], Board | None]) -> None:
        """Write to the path in ``--kcidb``; `board_of` returns the board of a node id."""
        self._config = config
        self._board_of = board_of
        self._reports: dict[str, list[pytest.TestReport]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the tests: one that is not run is missing."""
        self._record(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Record the tests that a worker collected: each collects the same."""
        self._record(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result of a phase."""
        self._reports.setdefault(report.nodeid, []).append(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        option = self._config.option
        if option.collectonly:
            return
        tests = (self._test(nodeid, reports) for nodeid, reports in self._reports.items())
        document = kcidb.document(tests, option.kcidb_origin)
        Path(option.kcidb).write_text(json.dumps(document, indent=1) + "\n")

    def _record(self, nodeids: Iterable[str]) -> None:
        for nodeid in nodeids:
            self._reports.setdefault(without_group(self._config, nodeid), [])

    def _test(self, nodeid: str, reports: Sequence[pytest.TestReport]) -> kcidb.KcidbTest:
        board = self._board_of(nodeid)
        module, _, name = nodeid.partition("::")
        function, _, parameters = name.partition("[")
        places = [*re.split(r"[/.]", module.removesuffix(".py")), *function.split("::")]
        places += [parameters.removesuffix("]")] if parameters else []
        return kcidb.KcidbTest(
            kernel=board.kernel if board else platform.release(),
            path=["pyvmm", *filter(None, places)],
            status=_status(reports),
            comment=nodeid,
            misc={"board": board.name if board else None},
            log="\n".join(report.longreprtext for report in reports if report.failed),
            duration=sum(report.duration for report in reports),
        )


def _status(reports: Sequence[pytest.TestReport]) -> str:
    if not reports:
        return "MISS"
    if any(report.failed and report.when == "call" for report in reports):
        return "FAIL"
    if any(report.failed for report in reports):
        return "ERROR"
    if any(report.skipped and not hasattr(report, "wasxfail") for report in reports):
        return "SKIP"
    return "PASS"
