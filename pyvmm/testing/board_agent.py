# SPDX-License-Identifier: GPL-2.0-only
"""A pytest plugin on a board, which runs the tests that another session orders there.

Its job is a JSON file with the options of the session that started the board. That session sends it
the node ids of the tests, one after the other: lines of JSON on stdin. It writes its reports to
stdout as lines of JSON.
"""

import json
import os
import subprocess
import termios
from collections.abc import Mapping
from contextlib import ExitStack
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from pyvmm.errors import PyvmmError
from pyvmm.testing.capture import uncaptured


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the job file."""
    about = "job file; used by --lab and --on"
    parser.getgroup("pyvmm").addoption("--board-agent", type=Path, help=about)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Apply the job's options and register the plugin."""
    job = json.loads(config.option.board_agent.read_text())
    vars(config.option).update(job["options"])
    if job["device"]:
        _bind_to_vfio(config, job["device"])
    config.pluginmanager.register(BoardAgent(config, job), "pyvmm-board-agent")


class BoardAgent:
    """The plugin that runs one job."""

    def __init__(self, config: pytest.Config, job: Mapping[str, Any]) -> None:
        """Keep the original stdin and stdout for orders and reports; the tests get others."""
        self._config = config
        self._shell: str | None = job["shell"]
        self._reports = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        with uncaptured(config), open(os.devnull) as null:  # noqa: PTH123
            self._orders = os.fdopen(os.dup(0))
            os.dup2(null.fileno(), 0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Discard pytest's own output: the session that started the board prints it."""
        session.config.get_terminal_writer()._file = open(os.devnull, "w")  # noqa: PTH123, SIM115

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Send why a module could not be collected."""
        if not report.passed:
            self._send("uncollected", nodeid=report.nodeid, report=self._serialize(report))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run each test that is ordered, until an order has none."""
        items = {item.nodeid: item for item in session.items}
        for line in self._orders:
            order = json.loads(line)
            if order["run"] is None:
                break
            if item := items.get(order["run"]):
                following = items.get(order["next"])
                self._config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            else:
                self._send("missing", nodeid=order["run"])
        return True

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Send that a test starts."""
        self._send("start", nodeid=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send the report of a test's phase."""
        self._send("report", nodeid=report.nodeid, report=self._serialize(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Send that a test has ended."""
        self._send("finish", nodeid=nodeid)

    def pytest_exception_interact(self, node: pytest.Item, report: pytest.TestReport) -> None:
        """Run a shell for ``--lab-shell-on-failure`` before the fixtures are torn down."""
        if self._shell is None or not isinstance(report, pytest.TestReport):
            return
        with uncaptured(node.config):
            self._send("shell", nodeid=report.nodeid, text=report.longreprtext)
            _run_shell(self._shell)
            self._send("shell-end")

    def _serialize(self, report: pytest.TestReport | pytest.CollectReport) -> dict[str, Any]:
        hook = self._config.hook
        data: dict[str, Any] = hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        if isinstance(report.longrepr, tuple):  # a skip: (file, line, reason)
            file, *rest = report.longrepr
            data["longrepr"] = (os.path.relpath(file, self._config.rootpath), *rest)
        return data

    def _send(self, event: str, **members: object) -> None:
        # default=str: user_properties may have values of any type.
        self._reports.write(json.dumps({"event": event, **members}, default=str) + "\n")
        self._reports.flush()


def _bind_to_vfio(config: pytest.Config, device: str) -> None:
    """Bind a PCI function to vfio until the session ends."""
    from pyvmm.vfio.rebind import bind_to_vfio
    from pyvmm.vfio.sysfs import PciFunction

    stack = ExitStack()
    try:
        stack.enter_context(bind_to_vfio(PciFunction.find(device)))
    except PyvmmError as error:
        raise pytest.UsageError(str(error)) from None
    config.add_cleanup(stack.close)


def _run_shell(terminal: str) -> None:
    """Run a shell with its own controlling terminal, so that Ctrl-C does not reach pytest."""
    # O_NOCTTY: pytest leads a session too, and the terminal would become its own.
    with os.fdopen(os.open(terminal, os.O_RDWR | os.O_NOCTTY), "r+b", buffering=0) as line:
        subprocess.run(
            ["sh", "-l"],
            stdin=line,
            stdout=line,
            stderr=line,
            start_new_session=True,
            preexec_fn=lambda: ioctl(line, termios.TIOCSCTTY, 0),
            check=False,
        )
