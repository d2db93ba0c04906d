# SPDX-License-Identifier: GPL-2.0-only
"""What pytest loads: options, markers, and the hooks that lead to the rest of `pyvmm.testing`.

It is loaded wherever pyvmm is installed, for tests of whatever: it imports nothing that those do
not need.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

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

__all__ = ["caps", "guest", "iommu_mode", "kvm", "ram", "vcpu", "vfio_device", "vm"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyvmm", "pyvmm: tests of KVM's uAPI")
    group.addoption("--kvm-headers", type=Path, metavar="DIR", help="know what these headers name")
    group.addoption("--ktap", metavar="FILE", help="write results as KTAP; - is stdout")
    lab = parser.getgroup("pyvmm-lab", "pyvmm: the emulated arm64 host")
    lab.addoption("--lab", action="store_true", help="run the tests there")
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    lab.addoption(
        "--lab-cpu", help="QEMU's CPU, its options too; several are parameters", **several
    )
    lab.addoption(
        "--lab-kernel", help="an Image, a tree, debian:VERSION, lab; several too", **several
    )
    lab.addoption("--lab-device", help="bochs, edu, nvme, grace; several are all there", **several)
    lab.addoption("--lab-shell-on-failure", action="store_true", help="a shell where a test failed")
    seconds = "seconds without a word from a test before its host is taken to hang (300)"
    lab.addoption("--lab-timeout", type=float, default=300.0, metavar="S", help=seconds)
    lab.addoption("--lab-memory", default="2G", metavar="SIZE", help="the kernel's RAM (2G)")
    lab.addoption("--lab-append", default="", metavar="TEXT", help="for the kernel's command line")
    lab.addoption("--lab-device-arg", help="a -device of QEMU's own", **several)
    lab.addoption("--lab-qemu", metavar="PROGRAM", help="a QEMU of yours")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
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
    if config.option.ktap:
        from pyvmm.testing.ktap import KtapWriter

        config.pluginmanager.register(KtapWriter(config), "pyvmm-ktap")
    if config.option.lab:
        from pyvmm.testing.lab_plugin import LabPlugin

        if config.option.usepdb:
            raise pytest.UsageError("--pdb ends at this machine: --lab-shell-on-failure")
        config.pluginmanager.register(LabPlugin(config), "pyvmm-lab")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "iommu_mode" in metafunc.fixturenames and not _is_given(metafunc, "iommu_mode"):
        from pyvmm.vfio.iommu_modes import MODES

        metafunc.parametrize("iommu_mode", MODES, indirect=True)


def _is_given(metafunc: pytest.Metafunc, name: str) -> bool:
    """Has the test parametrized this itself?"""
    markers = metafunc.definition.iter_markers("parametrize")
    return any(name in str(marker.args[0]) for marker in markers)


def pytest_runtest_setup(item: pytest.Item) -> None:
    from pyvmm.testing.needs import missing

    if lack := missing(item):
        raise pytest.skip.Exception(lack, _use_item_location=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, "pytest.TestReport", None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    fixtures = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "vm" in fixtures:
        from pyvmm.testing.vm_state import sections

        report.sections.extend(sections(fixtures))
