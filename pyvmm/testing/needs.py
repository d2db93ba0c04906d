# SPDX-License-Identifier: GPL-2.0-only
"""The markers ``needs_…``: requirements of a test, and the reasons to skip it."""

import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab.lab_devices import DEVICES

if TYPE_CHECKING:
    from pyvmm.caps import CapsReport
    from pyvmm.vfio.sysfs import PciFunction

MARKERS = {
    "needs_arch(machine)": 'skip unless KVM is for this architecture: "aarch64" or "x86_64"',
    "needs_cap(name, …)": "skip unless these KVM_CAP_* are not 0",
    "needs_feature(name, …)": 'skip unless the arm64 CPU has these features: "fwb", "dic", "idc"',
    "needs_device(name)": 'skip unless vfio has this device: one of the lab, or "vendor:device"',
}

_ALIASES = {"arm64": "aarch64", "amd64": "x86_64"}
_ARCH_HINTS = {
    "aarch64": "run it in the emulated arm64 host: pytest --lab",
    "x86_64": "run it on an x86-64 machine with KVM",
}

_REPORT = pytest.StashKey["CapsReport"]()


def caps_report(config: pytest.Config) -> "CapsReport":
    """Return this session's caps report. Raises `LackingError` without KVM."""
    if _REPORT not in config.stash:
        from pyvmm.caps import negotiate
        from pyvmm.kvm import System

        with System.open() as system:
            config.stash[_REPORT] = negotiate(system)
    return config.stash[_REPORT]


def skip_reason(item: pytest.Item) -> str | None:
    """Return why the test cannot run here and how to fix that, or None.

    Fail the test if a marker has an invalid argument.
    """
    try:
        for name, check in _CHECKS.items():
            for marker in item.iter_markers(name):
                for argument in marker.args:
                    if reason := check(item.config, argument):
                        return reason
        return None
    except UsageError as error:
        message = str(error)
    pytest.fail(message, pytrace=False)


def _check_arch(config: pytest.Config, machine: str) -> str | None:
    machine = _ALIASES.get(machine, machine)
    if platform.machine() == machine:
        return None
    return f"needs {machine}; {_ARCH_HINTS.get(machine, 'run it on such a machine')}"


def _check_capability(config: pytest.Config, name: str) -> str | None:
    try:
        report = caps_report(config)
    except LackingError as error:
        return str(error)
    try:
        capability = report.capability(name)
    except KeyError:
        raise UsageError(
            f"{name} is in no header that pyvmm has: pass your kernel's with --kvm-headers DIR"
        ) from None
    if capability.value:
        return None
    return (
        f"{name} ({capability.number}) is 0 on {report.kernel}{_verdict(report, name)}; to try "
        "another kernel or CPU: pytest --lab --lab-kernel IMAGE --lab-cpu max"
    )


def _verdict(report: "CapsReport", name: str) -> str:
    """Return the reason in the report why a capability is missing, if it has one."""
    if name == "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED":
        return f": {report.verdict('cacheable-pfnmap').why}"
    return ""


def _check_feature(config: pytest.Config, name: str) -> str | None:
    try:
        features = caps_report(config).features
    except LackingError as error:
        return str(error)
    if features is None:
        return f"needs an arm64 CPU with {name}: pytest --lab --lab-cpu max"
    has = getattr(features, name, None)
    if not isinstance(has, bool):
        raise UsageError(f"needs_feature({name!r}): pass fwb, dic or idc")
    return None if has else f"this CPU has no {name}: pytest --lab --lab-cpu max"


def _check_device(config: pytest.Config, name: str) -> str | None:
    return None if any(find_devices(name)) else missing_device(name)


def find_devices(name: str) -> "Iterator[PciFunction]":
    """Yield the PCI functions with a vfio driver that match a lab device or "vendor:device".

    Raises `UsageError` for an invalid name.
    """
    vendor, _, device = name.partition(":")
    lab_device = DEVICES.get(name)
    try:
        ids = lab_device.pci_id if lab_device else (int(vendor, 16), int(device, 16))
    except ValueError:
        raise UsageError(
            f"needs_device({name!r}): pass {', '.join(DEVICES)}, or vendor:device in hex"
        ) from None
    for function in vfio_functions():
        if (function.vendor, function.device) == ids and (
            lab_device is None or function.driver == lab_device.driver
        ):
            yield function


def vfio_functions() -> "Iterator[PciFunction]":
    """Yield every PCI function that is bound to a vfio driver."""
    from pyvmm.vfio.sysfs import PCI, list_functions

    if PCI.exists():
        yield from (function for function in list_functions() if "vfio" in (function.driver or ""))


def missing_device(name: str) -> str:
    """Return the reason to skip a test without a device, and how to get the device."""
    hint = "bind one with python -m pyvmm --vfio BDF --bind, or use a device of the lab"
    if name in DEVICES:
        hint = f"pytest --lab --lab-device {name}"
    return f"no {name} device is bound to a vfio driver: {hint}"


_CHECKS: dict[str, Callable[[pytest.Config, str], str | None]] = {
    "needs_arch": _check_arch,
    "needs_cap": _check_capability,
    "needs_feature": _check_feature,
    "needs_device": _check_device,
}
