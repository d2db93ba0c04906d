# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: its options, markers and hooks.

pytest loads it in every session if pyvmm is installed, so it imports the rest of pyvmm on demand.
"""

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyvmm.testing.fixtures import (
    caps,
    guest,
    iommu_mode,
    kvm,
    ram,
    vcpu,
    vfio_device,
    vm,
)

if TYPE_CHECKING:
    from pyvmm.testing.board_plugin import BoardPlugin

__all__ = ["caps", "guest", "iommu_mode", "kvm", "ram", "vcpu", "vfio_device", "vm"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `pyvmm.testing`."""
    group = parser.getgroup("pyvmm", "pyvmm: tests of KVM's uAPI")
    group.addoption(
        "--kvm-headers", type=Path, metavar="DIR", help="load the definitions of kernel headers"
    )
    group.addoption("--ktap", metavar="FILE", help="write results as KTAP; - is stdout")
    about = "write results for KCIDB, the database of kernel CI"
    group.addoption("--kcidb", metavar="FILE", help=about)
    about = "the name of this CI system in KCIDB (pyvmm)"
    group.addoption("--kcidb-origin", metavar="NAME", default="pyvmm", help=about)
    add = parser.getgroup("pyvmm-lab", "pyvmm: the emulated arm64 host").addoption
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    add("--lab", action="store_true", help="run the tests in the emulated arm64 host")
    add("--lab-cpu", help="CPU model of QEMU, with its options; repeatable", **several)
    kernels = "lab, debian:VERSION, or an Image or build tree; repeatable"
    add("--lab-kernel", help=kernels, **several)
    add(
        "--lab-device",
        help="emulated device (see python -m pyvmm lab test --help); repeatable",
        **several,
    )
    add("--lab-shell-on-failure", action="store_true", help="open a shell when a test fails")
    seconds = "time limit in seconds for each test, after which its host is restarted (300)"
    add("--lab-timeout", type=float, default=300.0, metavar="S", help=seconds)
    add("--lab-memory", default="2G", metavar="SIZE", help="RAM of the kernel (2G)")
    add("--lab-cpus-online", type=int, default=2, metavar="N", help="CPUs of the host (2)")
    pages = "huge pages to reserve at boot"
    add("--lab-hugepages", type=int, default=0, metavar="N", help=pages)
    modes = "mode of KVM in the host: vhe, nvhe, protected or nested; repeatable"
    add("--lab-mode", help=modes, **several)
    add("--lab-append", default="", metavar="TEXT", help="append to the kernel command line")
    add("--lab-device-arg", help="additional -device argument of QEMU", **several)
    packages = "Debian package to unpack into /run/packages/NAME of the host; repeatable"
    add("--lab-package", help=packages, **several)
    add("--lab-qemu", metavar="PROGRAM", help="QEMU program to use")

    add = parser.getgroup("pyvmm-boards", "pyvmm: machines that run the tests").addoption
    add("--on", help="ssh:HOST, which has Python and pytest; repeatable", **several)
    add("--on-device", metavar="BDF", help="PCI device to bind to vfio there for the session")
    add("--on-ssh", default="ssh", metavar="COMMAND", help="ssh command with its options (ssh)")
    seconds = "seconds in which a machine that disappeared must answer again (300)"
    add("--on-reboot", type=float, default=300.0, metavar="S", help=seconds)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and the plugins that the options request."""
    from pyvmm.testing.distribution import Ungrouped, is_controller, is_worker
    from pyvmm.testing.needs import MARKERS

    for marker, about in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {about}")
    if headers := config.option.kvm_headers:
        from pyvmm.errors import PyvmmError
        from pyvmm.uapi import overlay

        try:
            overlay.load(headers)
        except PyvmmError as error:
            raise pytest.UsageError(f"--kvm-headers: {error}") from None
    if is_controller(config):
        config.pluginmanager.register(Ungrouped(config), "pyvmm-ungrouped")
    if config.option.ktap and not is_worker(config):
        from pyvmm.testing.ktap_file import KtapWriter

        config.pluginmanager.register(KtapWriter(config), "pyvmm-ktap")
    boards = _register_boards(config) if config.option.lab or config.option.on else None
    if config.option.kcidb and not is_worker(config):
        from pyvmm import kcidb
        from pyvmm.errors import UsageError
        from pyvmm.testing.kcidb_file import KcidbWriter

        try:
            kcidb.check_origin(config.option.kcidb_origin)
        except UsageError as error:
            raise pytest.UsageError(f"--kcidb-origin: {error}") from None
        board_of = boards.board_of if boards else lambda nodeid: None
        config.pluginmanager.register(KcidbWriter(config, board_of), "pyvmm-kcidb")


def _register_boards(config: pytest.Config) -> "BoardPlugin":
    """Register the plugin that runs the tests on boards."""
    from pyvmm.errors import UsageError
    from pyvmm.testing.board_plugin import BoardPlugin
    from pyvmm.testing.distribution import is_controller

    if config.option.usepdb:
        raise pytest.UsageError("--pdb does not work with --lab: use --lab-shell-on-failure")
    if config.option.lab_shell_on_failure and is_controller(config):
        raise pytest.UsageError("--lab-shell-on-failure needs a session without -n")
    try:
        plugin = BoardPlugin(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(plugin, "pyvmm-boards")
    return plugin


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the fixture `iommu_mode`, unless the test does."""
    if "iommu_mode" in metafunc.fixturenames and not _is_parametrized(metafunc, "iommu_mode"):
        from pyvmm.vfio.iommu_modes import MODES

        metafunc.parametrize("iommu_mode", MODES, indirect=True)


def _is_parametrized(metafunc: pytest.Metafunc, name: str) -> bool:
    """Return True if the test parametrizes `name`."""
    markers = metafunc.definition.iter_markers("parametrize")
    return any(name in str(marker.args[0]) for marker in markers)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test if the requirements of its markers are not met."""
    from pyvmm.testing.needs import skip_reason

    if reason := skip_reason(item):
        raise pytest.skip.Exception(reason, _use_item_location=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, "pytest.TestReport", None]:
    """Add the state of the VM to the report of a failed test."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    fixtures = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "vm" in fixtures:
        from pyvmm.testing.vm_report import sections

        report.sections.extend(sections(fixtures))
