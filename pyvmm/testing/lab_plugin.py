# SPDX-License-Identifier: GPL-2.0-only
"""``--lab``: tests that are collected and reported here run in the emulated arm64 host.

Each CPU and kernel that is asked for is a board. With several, each test is there once a board,
``test_x[max-lab]``. A board is booted when its first test is due and runs the rest of them in one
go; its reports become this session's, so that ``-x``, ``--junitxml`` and all the rest work as ever.
A test with which the board dies or hangs has failed, and the next one gets a fresh boot.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pytest

from pyvmm.errors import PyvmmError
from pyvmm.lab import host, lab_devices, qemu
from pyvmm.lab.host import Host
from pyvmm.testing.host_session import HostFailure, HostSession
from pyvmm.uapi import header_set

When: TypeAlias = Literal["setup", "call", "teardown"]

_BOARD = "_pyvmm_board"  # the parameter
# What a session is about as a whole: which tests, in what order, and where their results go.
_OURS = {
    *("file_or_dir", "keyword", "markexpr", "deselect", "ignore", "ignore_glob", "pyargs"),
    *("maxfail", "lf", "failedfirst", "newfirst", "last_failed_no_failures", "cacheclear"),
    *("stepwise", "stepwise_skip", "stepwise_reset", "collectonly", "cacheshow", "plugins"),
    *("usepdb", "usepdb_cls", "trace", "setuponly", "setupshow", "setupplan", "basetemp"),
    *("rootdir", "inifilename", "confcutdir", "override_ini", "noconftest", "keepduplicates"),
    *("xmlpath", "junitprefix", "pastebin", "durations", "durations_min", "debug", "log_file"),
    *(
        "help",
        "version",
        "markers",
        "showfixtures",
        "show_fixtures_per_test",
        "ktap",
        "guest_agent",
    ),
    *("kvm_headers", "continue_on_collection_errors", "disable_plugin_autoload"),
}


@dataclass
class LabTarget:
    """A CPU and a kernel; how its boot goes.

    Attributes:
        name: as it stands in a node id.
        boot: the one that runs, None where the next test gets a fresh one.
        dead: why no boot of it gets as far as a test.
        useful: did this boot finish a test?
        missing: node ids that are not collected there.
        uncollected: what said why, modules mostly.
    """

    name: str
    cpu: str
    kernel: str | None
    boot: HostSession | None = None
    dead: str = ""
    useful: bool = False
    missing: set[str] = field(default_factory=set)
    uncollected: list[pytest.CollectReport] = field(default_factory=list)


class LabPlugin:
    """The plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._boards = _boards(config.option.lab_cpu, config.option.lab_kernel)
        self._hosts: dict[tuple[str, str | None], Host] = {}
        self._items: list[pytest.Item] = []

    def pytest_report_header(self) -> str:
        devices = ", ".join(self._config.option.lab_device) or "no device"
        return f"pyvmm lab: {', '.join(board.name for board in self._boards)}; {devices}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if len(self._boards) > 1:
            metafunc.fixturenames.insert(0, _BOARD)
            names = [board.name for board in self._boards]
            metafunc.parametrize(_BOARD, range(len(names)), ids=names, scope="session")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=_board_of)  # one boot each

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Make the hosts ready: what is not in the cache yet is fetched and built."""
        if session.config.option.collectonly or not session.items:
            return
        self._items = session.items
        reporter = session.config.pluginmanager.getplugin("terminalreporter")
        said: set[str] = set()

        def progress(what: str, done: float | None) -> None:
            if reporter and what not in said:
                reporter.write_line(f"pyvmm: {what}")
            said.add(what)

        try:
            self._hosts = _hosts(self._boards, session.config.option, progress)
        except PyvmmError as error:
            pytest.exit(f"--lab: {error}", returncode=error.status)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        board = self._boards[_board_of(item)]
        for report in self._reports(board, item):
            report.nodeid, report.location = item.nodeid, item.location
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if nextitem is None or _board_of(nextitem) != _board_of(item):
            _power_off(board)
        return True

    def pytest_sessionfinish(self) -> None:
        for board in self._boards:  # none is left but after -x or Ctrl-C
            _power_off(board, kill=True)

    def _reports(self, board: LabTarget, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """A test's reports: those that come, or one that says why none do."""
        nodeid = self._nodeid_there(item)
        when: When = "setup"
        started = False
        while True:
            try:
                if board.dead:
                    yield _made(item, "failed", board.dead)
                    return
                if nodeid in board.missing:
                    yield _uncollected(item, nodeid, board)
                    return
                board.boot = board.boot or self._boot(board, item)
                event = board.boot.next()
            except HostFailure as error:
                _power_off(board, kill=True)
                if started:
                    yield _made(item, "failed", str(error), when)
                    return
                if not board.useful:
                    board.dead = str(error)
                board.useful = False  # it died between two tests: this one gets a fresh boot
                continue
            except PyvmmError as error:
                board.dead = str(error)
                continue
            if event["event"] == "missing":
                board.missing.update(event["nodeids"])
            elif event["event"] == "uncollected":
                board.uncollected.append(self._restored(event["report"]))
            elif event["event"] == "shell":
                self._shell(board.boot, event["text"])
            elif event.get("nodeid") == nodeid:
                if event["event"] == "start":
                    started, when = True, "call"
                elif event["event"] == "report":
                    report = self._restored(event["report"])
                    when = "call" if report.when == "setup" else "teardown"
                    yield report
                elif event["event"] == "finish":
                    board.useful = True
                    return

    def _boot(self, board: LabTarget, item: pytest.Item) -> HostSession:
        """A boot for this test and all that come after it on its board."""
        config, option = self._config, self._config.option
        left = self._items[self._items.index(item) :]
        tests = [self._nodeid_there(each) for each in left if _board_of(each) == _board_of(item)]
        with self._uncaptured():
            return HostSession(
                self._hosts[board.cpu, board.kernel],
                tests,
                root=config.rootpath,
                ini=config.inipath,
                options=_carried(vars(option)),
                timeout=option.lab_timeout,
                shell=option.lab_shell_on_failure,
            )

    def _nodeid_there(self, item: pytest.Item) -> str:
        """A node id without its board."""
        if len(self._boards) == 1 or not hasattr(item, "callspec"):
            return item.nodeid
        head = item.nodeid.removesuffix(f"[{item.callspec.id}]")
        rest = item.callspec.id.removeprefix(self._boards[_board_of(item)].name).removeprefix("-")
        return f"{head}[{rest}]" if rest else head

    def _restored(self, data: dict[str, Any]) -> Any:
        """A report as it was there; of a skip, the file here, in a tuple, as JSON has none."""
        if isinstance(data["longrepr"], list):
            file, *rest = data["longrepr"]
            data["longrepr"] = (str(self._config.rootpath / file), *rest)
        hook = self._config.hook
        return hook.pytest_report_from_serializable(config=self._config, data=data)

    def _shell(self, boot: HostSession, text: str) -> None:
        """A shell there, while the test that failed has its fixtures still."""
        with self._uncaptured():
            print(f"\n{text}\npyvmm: a shell in the emulated host; the next test follows its exit")
            boot.attach()

    @contextlib.contextmanager
    def _uncaptured(self) -> Iterator[None]:
        """With this process's own stdin and stdout."""
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            yield
            return
        capture.suspend_global_capture(in_=True)
        try:
            yield
        finally:
            capture.resume_global_capture()


def _boards(cpus: Sequence[str], kernels: Sequence[str]) -> list[LabTarget]:
    boards: list[LabTarget] = []
    for cpu in cpus or ["max"]:
        for kernel in kernels or (None,):
            # A tree's or an Image's is its directory's name.
            path = (kernel or "lab").removesuffix("/").removesuffix("/arch/arm64/boot/Image")
            name = f"{cpu}-{path.rpartition('/')[2]}"
            taken = sum(board.name.partition("@")[0] == name for board in boards)
            boards.append(LabTarget(f"{name}@{taken + 1}" if taken else name, cpu, kernel))
    return boards


def _hosts(
    boards: Sequence[LabTarget], option: Any, progress: Callable[[str, float | None], None]
) -> dict[tuple[str, str | None], Host]:
    program = qemu.find(progress, option.lab_qemu)
    files = [header_set.cache_file(option.kvm_headers, "arm64")] if option.kvm_headers else []
    found = {}
    for board in boards:
        machine = qemu.EmulatedMachine(
            cpu=board.cpu,
            memory=qemu.parse_size(option.lab_memory),
            devices=tuple(lab_devices.lookup(option.lab_device)),
            device_arguments=tuple(option.lab_device_arg),
            append=option.lab_append,
        )
        found[board.cpu, board.kernel] = host.prepare_by_name(
            program, board.kernel, machine, progress, files
        )
    return found


def _carried(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of this session that the tests' own one has as well."""
    carried = {}
    for name, value in options.items():
        if name in _OURS or name.startswith("lab"):
            continue
        with contextlib.suppress(TypeError):
            json.dumps(value)
            carried[name] = value
    return carried


def _board_of(item: pytest.Item) -> int:
    # Tests of unittest's cannot be parametrized: they run on the first board.
    callspec = getattr(item, "callspec", None)
    number: int = callspec.params.get(_BOARD, 0) if callspec else 0
    return number


def _power_off(board: LabTarget, *, kill: bool = False) -> None:
    boot, board.boot = board.boot, None
    if boot:
        boot.close(kill=kill)


def _uncollected(item: pytest.Item, nodeid: str, board: LabTarget) -> pytest.TestReport:
    """Why there is no such test there: its module was skipped, or could not be imported."""
    for report in board.uncollected:
        if nodeid.startswith(report.nodeid):
            if report.skipped:
                return _made(item, "skipped", report.longrepr)
            return _made(item, "failed", report.longreprtext)
    return _made(
        item,
        "failed",
        "the emulated host finds no such test: is it parametrized with what this machine has?",
    )


def _made(
    item: pytest.Item,
    outcome: Literal["failed", "skipped"],
    why: Any,
    when: When = "setup",
) -> pytest.TestReport:
    return pytest.TestReport(
        item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, why, when
    )
