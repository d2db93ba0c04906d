# SPDX-License-Identifier: GPL-2.0-only
"""The options ``--lab`` and ``--on``: tests run on boards and are reported in this session.

Each combination of ``--lab-cpu``, ``--lab-kernel`` and ``--lab-mode`` is a board, an emulated
arm64 host, and so is each ``--on``. If there are several, every test has a parameter for the board:
``test_x[max-lab]``. A board starts for its first test and then runs its other tests in the same
session of pytest there. Its reports become those of this session, so ``-x``, ``--junitxml`` and
other options work as usual. A test that kills or hangs its board has failed; the next test starts
the board again.
"""

import contextlib
import itertools
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pytest

from pyvmm.errors import PyvmmError, UsageError
from pyvmm.testing.board_protocol import Board, BoardFailure, Job
from pyvmm.testing.board_session import BoardSession
from pyvmm.testing.capture import uncaptured
from pyvmm.testing.distribution import is_controller, schedule_by, without_group
from pyvmm.testing.lab_board import LabBoard
from pyvmm.testing.ssh_board import SshBoard
from pyvmm.uapi import header_set

Phase: TypeAlias = Literal["setup", "call", "teardown"]

_TARGET = "_pyvmm_target"  # the parameter
# Options that concern the whole session: the tests, their order, and the destination of results.
# pytest on the board does not get them.
_SESSION_OPTIONS = {
    *("file_or_dir", "keyword", "markexpr", "deselect", "ignore", "ignore_glob", "pyargs"),
    *("maxfail", "lf", "failedfirst", "newfirst", "last_failed_no_failures", "cacheclear"),
    *("stepwise", "stepwise_skip", "stepwise_reset", "collectonly", "cacheshow", "plugins"),
    *("usepdb", "usepdb_cls", "trace", "setuponly", "setupshow", "setupplan", "basetemp"),
    *("rootdir", "inifilename", "confcutdir", "override_ini", "noconftest", "keepduplicates"),
    *("xmlpath", "junitprefix", "pastebin", "durations", "durations_min", "debug", "log_file"),
    *("help", "version", "markers", "showfixtures", "show_fixtures_per_test"),
    *("ktap", "kcidb", "kcidb_origin"),
    *(
        "on",
        "board_agent",
        "kvm_headers",
        "continue_on_collection_errors",
        "disable_plugin_autoload",
    ),
    *("dist", "distload", "loadgroup", "tx", "px", "numprocesses", "maxprocesses", "looponfail"),
}


@dataclass
class Target:
    """A board to run tests on, and the state of its current start.

    Attributes:
        session: the current start, or None if the next test starts one.
        failure: why every start fails before the first test.
        has_failed: True if the board failed in its last start.
        has_run_test: True if the current start has completed a test.
        uncollected: reports of modules and others that the board could not collect.
    """

    board: Board
    session: BoardSession | None = None
    failure: str = ""
    has_failed: bool = False
    has_run_test: bool = False
    uncollected: list[pytest.CollectReport] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the board's name."""
        return self.board.name

    def stop(self, *, kill: bool = False) -> None:
        """Stop the board, if it is started."""
        session, self.session = self.session, None
        if session:
            session.close(kill=kill)


class BoardPlugin:
    """The plugin that runs the session's tests on the targets."""

    def __init__(self, config: pytest.Config) -> None:
        """Create the targets of the options."""
        self._config = config
        self._targets = [Target(board) for board in boards(config.option)]
        self._first = self._targets[0].board
        self._items: list[pytest.Item] = []

    def pytest_report_header(self) -> str:
        """Return the boards and devices for the session's header."""
        option = self._config.option
        devices = ", ".join([*option.lab_device, *filter(None, [option.on_device])]) or "no device"
        return f"pyvmm on {', '.join(target.name for target in self._targets)}; {devices}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Add the parameter for the target, if there are several."""
        if len(self._targets) > 1:
            metafunc.fixturenames.insert(0, _TARGET)
            names = [target.name for target in self._targets]
            metafunc.parametrize(_TARGET, range(len(names)), ids=names, scope="session")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the tests by target, so that each target boots once."""
        items.sort(key=_target_index)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Return a scheduler that gives all tests of a target to one worker, if there are several.

        With ``--dist loadfile``, any worker runs any target.
        """
        if config.option.dist in ("load", "loadgroup") and len(self._targets) > 1:
            return schedule_by(self._target_name, config, log)
        return None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Prepare the boards before pytest-xdist starts workers."""
        if is_controller(self._config):
            self._prepare(session)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Prepare the boards."""
        self._items = session.items
        if self._items and not session.config.option.collectonly:
            self._prepare(session)

    def _prepare(self, session: pytest.Session) -> None:
        reporter = session.config.pluginmanager.getplugin("terminalreporter")
        printed: set[str] = set()

        def progress(step: str, fraction: float | None) -> None:
            if reporter and step not in printed:
                reporter.write_line(f"pyvmm: {step}")
            printed.add(step)

        try:
            for target in self._targets:
                target.board.prepare(progress)
        except PyvmmError as error:
            pytest.exit(f"{target.name}: {error}", returncode=error.status)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test on its target; stop its board after the last one there."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        target = self._targets[_target_index(item)]
        if nextitem and self._targets[_target_index(nextitem)] is not target:
            nextitem = None
        for report in self._reports(target, item, nextitem):
            report.nodeid, report.location = item.nodeid, item.location
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if nextitem is None:
            target.stop()
            target.board.release()
        return True

    def pytest_sessionfinish(self) -> None:
        """Stop the board that still runs after ``-x`` or Ctrl-C."""
        for target in self._targets:
            target.stop(kill=True)
            target.board.release()

    def _reports(
        self, target: Target, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Iterator[pytest.TestReport]:
        """Yield the test's reports, or one report of why it did not run."""
        nodeid = self._nodeid_on_board(item)
        following = self._nodeid_on_board(nextitem) if nextitem else None
        phase: Phase = "setup"
        ordered = started = False
        while True:
            try:
                if target.failure:
                    yield _report(item, "failed", target.failure)
                    return
                target.session = target.session or self._start(target)
                if not ordered:
                    target.session.run(nodeid, following)
                    ordered = True
                event = target.session.next()
            except BoardFailure as error:
                target.stop(kill=True)
                target.has_failed = True
                if started:
                    yield _report(item, "failed", str(error), phase)
                    return
                if not target.has_run_test:
                    target.failure = str(error)
                target.has_run_test = False  # it failed between two tests: start it again
                ordered = False
                continue
            except PyvmmError as error:
                target.failure = str(error)
                continue
            if event["event"] == "uncollected":
                target.uncollected.append(self._deserialize(event["report"]))
            elif event["event"] == "shell":
                self._shell(target.session, event["text"])
            elif event.get("nodeid") == nodeid:
                if event["event"] == "missing":
                    yield _missing_report(item, nodeid, target)
                    return
                if event["event"] == "start":
                    started, phase = True, "call"
                elif event["event"] == "report":
                    report = self._deserialize(event["report"])
                    phase = "call" if report.when == "setup" else "teardown"
                    yield report
                elif event["event"] == "finish":
                    target.has_run_test = True
                    return

    def _start(self, target: Target) -> BoardSession:
        """Start the target's board for the session's tests on it."""
        option = self._config.option
        tests = [each for each in self._items if self._targets[_target_index(each)] is target]
        modules = dict.fromkeys(each.nodeid.partition("::")[0] for each in tests)
        headers = header_set.cache_file(option.kvm_headers, "arm64") if option.kvm_headers else None
        job = Job(
            root=self._config.rootpath,
            modules=list(modules),
            ini=self._config.inipath,
            options=_board_options(vars(option)),
            headers=[headers] if headers else [],
        )
        if target.has_failed:
            target.board.power_cycle()
            target.has_failed = False
        with uncaptured(self._config):
            return BoardSession(target.board, job, option.lab_timeout)

    def board_of(self, nodeid: str) -> Board:
        """Return the board of a node id."""
        name = self._target_name(nodeid)
        return next((each.board for each in self._targets if each.name == name), self._first)

    def _target_name(self, nodeid: str) -> str:
        """Return the name of the target in a node id, or the node id if it has none."""
        parameters = nodeid.partition("[")[2]
        names = [each.name for each in self._targets if parameters.startswith(each.name)]
        return max(names, key=len, default=nodeid)

    def _nodeid_on_board(self, item: pytest.Item) -> str:
        """Return the node id without the target's parameter and the group of xdist."""
        nodeid = without_group(self._config, item.nodeid)
        if len(self._targets) == 1 or not hasattr(item, "callspec"):
            return nodeid
        head = nodeid.removesuffix(f"[{item.callspec.id}]")
        target = self._targets[_target_index(item)]
        rest = item.callspec.id.removeprefix(target.name).removeprefix("-")
        return f"{head}[{rest}]" if rest else head

    def _deserialize(self, data: dict[str, Any]) -> Any:
        """Return a report from the board; a skip gets its tuple and this machine's path back."""
        if isinstance(data["longrepr"], list):
            file, *rest = data["longrepr"]
            data["longrepr"] = (str(self._config.rootpath / file), *rest)
        hook = self._config.hook
        return hook.pytest_report_from_serializable(config=self._config, data=data)

    def _shell(self, session: BoardSession, text: str) -> None:
        """Attach the terminal to a shell in the host, where the failed test has its fixtures."""
        with uncaptured(self._config):
            print(f"\n{text}\npyvmm: shell in the emulated host; exit it to run the next test")
            session.attach()


def boards(option: Any) -> list[Board]:
    """Return the boards of the options. Raises `UsageError`."""
    found: list[Board] = []
    if option.lab:
        for cpu, kernel, mode in itertools.product(
            option.lab_cpu or ("max",), option.lab_kernel or (None,), option.lab_mode or (None,)
        ):
            # A build tree or its Image is named after the directory of the tree.
            path = (kernel or "lab").removesuffix("/").removesuffix("/arch/arm64/boot/Image")
            name = "-".join(filter(None, (cpu, path.rpartition("/")[2], mode)))
            same = sum(board.name.partition("@")[0] == name for board in found)
            unique = f"{name}@{same + 1}" if same else name
            found.append(LabBoard(unique, cpu, kernel, mode, option))
    for place in option.on:
        kind, _, rest = place.partition(":")
        if kind != "ssh" or not rest:
            raise UsageError(f"--on {place}: pass ssh:HOST")
        found.append(
            SshBoard(
                rest,
                device=option.on_device,
                ssh=shlex.split(option.on_ssh),
                patience=option.on_reboot,
            )
        )
    return found


def _board_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of this session to apply on the board."""
    carried = {}
    for name, value in options.items():
        if name in _SESSION_OPTIONS or name.startswith(("lab", "on_")):
            continue
        with contextlib.suppress(TypeError):
            json.dumps(value)
            carried[name] = value
    return carried


def _target_index(item: pytest.Item) -> int:
    # Tests of unittest cannot be parametrized: they run on the first target.
    callspec = getattr(item, "callspec", None)
    index: int = callspec.params.get(_TARGET, 0) if callspec else 0
    return index


def _missing_report(item: pytest.Item, nodeid: str, target: Target) -> pytest.TestReport:
    """Return the report of a test that the board did not collect, with its module's error."""
    for report in target.uncollected:
        if nodeid.startswith(report.nodeid):
            if report.skipped:
                return _report(item, "skipped", report.longrepr)
            return _report(item, "failed", report.longreprtext)
    return _report(
        item,
        "failed",
        "the board did not collect this test: do its parameters depend on this machine?",
    )


def _report(
    item: pytest.Item,
    outcome: Literal["failed", "skipped"],
    reason: Any,
    phase: Phase = "setup",
) -> pytest.TestReport:
    return pytest.TestReport(
        item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, reason, phase
    )
