# SPDX-License-Identifier: GPL-2.0-only
"""The option ``--lab``: tests run in the emulated arm64 host and are reported in this session.

Each combination of ``--lab-cpu``, ``--lab-kernel`` and ``--lab-mode`` is a target. If there are
several, every test has a parameter for the target: ``test_x[max-lab]``. A target boots for its
first test and then runs its other tests in the same boot. Its reports become those of this session,
so ``-x``, ``--junitxml`` and other options work as usual. A test that kills or hangs the host has
failed; the next test starts a new boot.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pytest

from pyvmm.errors import PyvmmError
from pyvmm.lab import host, lab_devices, qemu
from pyvmm.lab.apt import Progress
from pyvmm.lab.host import Host
from pyvmm.testing.capture import uncaptured
from pyvmm.testing.distribution import is_controller, schedule_by, without_group
from pyvmm.testing.host_session import HostFailure, HostSession
from pyvmm.uapi import header_set

Phase: TypeAlias = Literal["setup", "call", "teardown"]

_TARGET = "_pyvmm_target"  # the parameter
# Options that concern the whole session: the tests, their order, and the destination of results.
# pytest in the emulated host does not get them.
_SESSION_OPTIONS = {
    *("file_or_dir", "keyword", "markexpr", "deselect", "ignore", "ignore_glob", "pyargs"),
    *("maxfail", "lf", "failedfirst", "newfirst", "last_failed_no_failures", "cacheclear"),
    *("stepwise", "stepwise_skip", "stepwise_reset", "collectonly", "cacheshow", "plugins"),
    *("usepdb", "usepdb_cls", "trace", "setuponly", "setupshow", "setupplan", "basetemp"),
    *("rootdir", "inifilename", "confcutdir", "override_ini", "noconftest", "keepduplicates"),
    *("xmlpath", "junitprefix", "pastebin", "durations", "durations_min", "debug", "log_file"),
    *("help", "version", "markers", "showfixtures", "show_fixtures_per_test", "ktap"),
    *("guest_agent", "kvm_headers", "continue_on_collection_errors", "disable_plugin_autoload"),
    *("dist", "distload", "loadgroup", "tx", "px", "numprocesses", "maxprocesses", "looponfail"),
}


@dataclass
class LabTarget:
    """A CPU, a kernel and a mode of KVM to run tests with, and the state of the current boot.

    Attributes:
        name: the name in node ids.
        session: the current boot, or None if the next test starts one.
        failure: why every boot fails before the first test.
        has_run_test: True if the current boot has completed a test.
        uncollected: reports of modules and others that the host could not collect.
    """

    name: str
    cpu: str
    kernel: str | None
    mode: str | None
    session: HostSession | None = None
    failure: str = ""
    has_run_test: bool = False
    uncollected: list[pytest.CollectReport] = field(default_factory=list)


class LabPlugin:
    """The plugin that runs the session's tests on the targets."""

    def __init__(self, config: pytest.Config) -> None:
        """Create the targets of the options."""
        self._config = config
        option = config.option
        self._targets = _targets(option.lab_cpu, option.lab_kernel, option.lab_mode)
        self._hosts: dict[str, Host] = {}
        self._items: list[pytest.Item] = []

    def pytest_report_header(self) -> str:
        """Return the targets and devices for the session's header."""
        devices = ", ".join(self._config.option.lab_device) or "no device"
        return f"pyvmm lab: {', '.join(target.name for target in self._targets)}; {devices}"

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
        """Prepare the hosts before pytest-xdist starts workers."""
        if is_controller(self._config):
            self._prepare(session)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Prepare the hosts."""
        self._items = session.items
        if self._items and not session.config.option.collectonly:
            self._prepare(session)

    def _prepare(self, session: pytest.Session) -> None:
        """Download and build what the cache lacks."""
        reporter = session.config.pluginmanager.getplugin("terminalreporter")
        printed: set[str] = set()

        def progress(step: str, fraction: float | None) -> None:
            if reporter and step not in printed:
                reporter.write_line(f"pyvmm: {step}")
            printed.add(step)

        try:
            self._hosts = _hosts(self._targets, session.config.option, progress)
        except PyvmmError as error:
            pytest.exit(f"--lab: {error}", returncode=error.status)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test on its target; power the target off after its last test."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        target = self._targets[_target_index(item)]
        if nextitem and self._targets[_target_index(nextitem)] is not target:
            nextitem = None
        for report in self._reports(target, item, nextitem):
            report.nodeid, report.location = item.nodeid, item.location
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if nextitem is None:
            _power_off(target)
        return True

    def pytest_sessionfinish(self) -> None:
        """Power off the target that still runs after ``-x`` or Ctrl-C."""
        for target in self._targets:
            _power_off(target, kill=True)

    def _reports(
        self, target: LabTarget, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Iterator[pytest.TestReport]:
        """Yield the test's reports, or one report of why it did not run."""
        nodeid = self._nodeid_in_host(item)
        following = self._nodeid_in_host(nextitem) if nextitem else None
        phase: Phase = "setup"
        ordered = started = False
        while True:
            try:
                if target.failure:
                    yield _report(item, "failed", target.failure)
                    return
                target.session = target.session or self._boot(target)
                if not ordered:
                    target.session.run(nodeid, following)
                    ordered = True
                event = target.session.next()
            except HostFailure as error:
                _power_off(target, kill=True)
                if started:
                    yield _report(item, "failed", str(error), phase)
                    return
                if not target.has_run_test:
                    target.failure = str(error)
                target.has_run_test = False  # the host died between two tests: boot it again
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

    def _boot(self, target: LabTarget) -> HostSession:
        """Boot the target for the session's tests on it."""
        option = self._config.option
        tests = [each for each in self._items if self._targets[_target_index(each)] is target]
        modules = dict.fromkeys(each.nodeid.partition("::")[0] for each in tests)
        with uncaptured(self._config):
            return HostSession(
                self._hosts[target.name],
                list(modules),
                root=self._config.rootpath,
                ini=self._config.inipath,
                options=_host_options(vars(option)),
                timeout=option.lab_timeout,
                shell=option.lab_shell_on_failure,
            )

    def _target_name(self, nodeid: str) -> str:
        """Return the name of the target in a node id, or the node id if it has none."""
        parameters = nodeid.partition("[")[2]
        names = [each.name for each in self._targets if parameters.startswith(each.name)]
        return max(names, key=len, default=nodeid)

    def _nodeid_in_host(self, item: pytest.Item) -> str:
        """Return the node id without the target's parameter and the group of xdist."""
        nodeid = without_group(self._config, item.nodeid)
        if len(self._targets) == 1 or not hasattr(item, "callspec"):
            return nodeid
        head = nodeid.removesuffix(f"[{item.callspec.id}]")
        target = self._targets[_target_index(item)]
        rest = item.callspec.id.removeprefix(target.name).removeprefix("-")
        return f"{head}[{rest}]" if rest else head

    def _deserialize(self, data: dict[str, Any]) -> Any:
        """Return a report from the host; a skip gets its tuple and this machine's path back."""
        if isinstance(data["longrepr"], list):
            file, *rest = data["longrepr"]
            data["longrepr"] = (str(self._config.rootpath / file), *rest)
        hook = self._config.hook
        return hook.pytest_report_from_serializable(config=self._config, data=data)

    def _shell(self, session: HostSession, text: str) -> None:
        """Attach the terminal to a shell in the host, where the failed test has its fixtures."""
        with uncaptured(self._config):
            print(f"\n{text}\npyvmm: shell in the emulated host; exit it to run the next test")
            session.attach()


def _targets(cpus: Sequence[str], kernels: Sequence[str], modes: Sequence[str]) -> list[LabTarget]:
    targets: list[LabTarget] = []
    for cpu, kernel, mode in itertools.product(
        cpus or ("max",), kernels or (None,), modes or (None,)
    ):
        # A build tree or its Image is named after the directory of the tree.
        path = (kernel or "lab").removesuffix("/").removesuffix("/arch/arm64/boot/Image")
        name = "-".join(filter(None, (cpu, path.rpartition("/")[2], mode)))
        same = sum(target.name.partition("@")[0] == name for target in targets)
        targets.append(LabTarget(f"{name}@{same + 1}" if same else name, cpu, kernel, mode))
    return targets


def _hosts(targets: Sequence[LabTarget], option: Any, progress: Progress) -> dict[str, Host]:
    program = qemu.find(progress, option.lab_qemu)
    files = [header_set.cache_file(option.kvm_headers, "arm64")] if option.kvm_headers else []
    hosts = {}
    for target in targets:
        machine = qemu.EmulatedMachine(
            cpu=target.cpu,
            memory=qemu.parse_size(option.lab_memory),
            devices=tuple(lab_devices.lookup(option.lab_device)),
            device_arguments=tuple(option.lab_device_arg),
            append=option.lab_append,
            mode=target.mode,
        )
        hosts[target.name] = host.prepare_by_name(
            program, target.kernel, machine, progress, files, option.lab_package
        )
    return hosts


def _host_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of this session to apply in the host."""
    carried = {}
    for name, value in options.items():
        if name in _SESSION_OPTIONS or name.startswith("lab"):
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


def _power_off(target: LabTarget, *, kill: bool = False) -> None:
    session, target.session = target.session, None
    if session:
        session.close(kill=kill)


def _missing_report(item: pytest.Item, nodeid: str, target: LabTarget) -> pytest.TestReport:
    """Return the report of a test that the host did not collect, with its module's error."""
    for report in target.uncollected:
        if nodeid.startswith(report.nodeid):
            if report.skipped:
                return _report(item, "skipped", report.longrepr)
            return _report(item, "failed", report.longreprtext)
    return _report(
        item,
        "failed",
        "the emulated host did not collect this test: do its parameters depend on this machine?",
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
