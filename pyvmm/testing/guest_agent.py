# SPDX-License-Identifier: GPL-2.0-only
"""The end of ``--lab`` that is in the emulated host: runs the tests it was sent for, and reports.

What it was sent for is in a file: the tests' node ids in their order, and the options that the
session outside has. What it reports are lines of JSON on what was its stdout.
"""

import json
import os
import subprocess
import termios
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("pyvmm").addoption(
        "--guest-agent", type=Path, help="what to run; used by --lab"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    job = json.loads(config.option.guest_agent.read_text())
    vars(config.option).update(job["options"])
    config.pluginmanager.register(GuestAgent(config, job), "pyvmm-guest-agent")


class GuestAgent:
    """The plugin for one job."""

    def __init__(self, config: pytest.Config, job: Mapping[str, Any]) -> None:
        self._config = config
        self._wanted: list[str] = job["tests"]
        self._shell: str | None = job["shell"]
        # A test's own stdout, where pytest does not capture it, goes with its stderr.
        self._reports = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        # What pytest tells a person is told outside.
        session.config.get_terminal_writer()._file = open(os.devnull, "w")  # noqa: PTH123, SIM115

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._send("uncollected", nodeid=report.nodeid, report=self._plain(report))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        items[:] = [found[nodeid] for nodeid in self._wanted if nodeid in found]
        self._send("missing", nodeids=[each for each in self._wanted if each not in found])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._send("start", nodeid=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._send("report", nodeid=report.nodeid, report=self._plain(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._send("finish", nodeid=nodeid)

    def pytest_exception_interact(self, node: pytest.Item, report: pytest.TestReport) -> None:
        """``--lab-shell-on-failure``: the test's fixtures are as they were when it failed."""
        if self._shell is None or not isinstance(report, pytest.TestReport):
            return
        capture = node.config.pluginmanager.getplugin("capturemanager")
        if capture:
            capture.suspend_global_capture(in_=True)
        self._send("shell", nodeid=report.nodeid, text=report.longreprtext)
        _shell(self._shell)
        self._send("unshell")
        if capture:
            capture.resume_global_capture()

    def _plain(self, report: pytest.TestReport | pytest.CollectReport) -> dict[str, Any]:
        hook = self._config.hook
        data: dict[str, Any] = hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        if isinstance(report.longrepr, tuple):  # a skip: file, line and reason
            file, *rest = report.longrepr
            data["longrepr"] = (os.path.relpath(file, self._config.rootpath), *rest)
        return data

    def _send(self, event: str, **what: object) -> None:
        # What a test records of its own (user_properties) may be anything.
        self._reports.write(json.dumps({"event": event, **what}, default=str) + "\n")
        self._reports.flush()


def _shell(terminal: str) -> None:
    """A shell that has the terminal to itself, so that Ctrl-C there is for what it runs."""
    with open(terminal, "r+b", buffering=0) as line:  # noqa: PTH123
        subprocess.run(
            ["sh", "-l"],
            stdin=line,
            stdout=line,
            stderr=line,
            start_new_session=True,
            preexec_fn=lambda: ioctl(line, termios.TIOCSCTTY, 0),
            check=False,
        )
