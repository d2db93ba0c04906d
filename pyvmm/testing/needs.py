# SPDX-License-Identifier: GPL-2.0-only
"""What a test needs beyond a kernel: the markers, and what to do where it is missing."""

import platform
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from pyvmm.errors import LackingError, UsageError

if TYPE_CHECKING:
    from pyvmm.caps import CapsReport
    from pyvmm.vfio.sysfs import PciFunction

MARKERS = {
    "needs_arch(machine)": 'the architecture of the host\'s KVM: "aarch64" or "x86_64"',
    "needs_cap(name, …)": "KVM_CAP_*s that are not 0 on a VM here",
    "needs_feature(name, …)": 'features of an arm64 CPU: "fwb", "dic", "idc"',
    "needs_device(name)": 'a PCI device that vfio has: one of the lab\'s, or "vendor:device"',
}

_ALIASES = {"arm64": "aarch64", "amd64": "x86_64"}
_HOMES = {
    "aarch64": "run it in the emulated arm64 host: pytest --lab",
    "x86_64": "run it on an x86-64 machine with KVM",
}

# The lab's devices: vendor, device, and the vfio driver that has it there.
DEVICES = {
    "bochs": (0x1234, 0x1111, "vfio-pci"),
    "edu": (0x1234, 0x11E8, "vfio-pci"),
    "nvme": (0x1B36, 0x0010, "vfio-pci"),
    "grace": (0x1234, 0x1111, "nvgrace_gpu_vfio_pci"),
}

_REPORT = pytest.StashKey["CapsReport"]()


def capabilities(config: pytest.Config) -> "CapsReport":
    """What this kernel and CPU offer, asked once a session. Raises `LackingError` without KVM."""
    if _REPORT not in config.stash:
        from pyvmm.caps import negotiate
        from pyvmm.kvm import System

        with System.open() as system:
            config.stash[_REPORT] = negotiate(system)
    return config.stash[_REPORT]


def missing(item: pytest.Item) -> str | None:
    """What a test needs and this machine has not, and the way to it; None where nothing is.

    Fails the test where it asks for what there is not.
    """
    try:
        for name, look in _LOOKS.items():
            for marker in item.iter_markers(name):
                for wanted in marker.args:
                    if lack := look(item.config, wanted):
                        return lack
        return None
    except UsageError as error:
        wrong = str(error)
    pytest.fail(wrong, pytrace=False)


def _arch(config: pytest.Config, wanted: str) -> str | None:
    wanted = _ALIASES.get(wanted, wanted)
    if platform.machine() == wanted:
        return None
    return f"needs {wanted}; {_HOMES.get(wanted, 'run it on such a machine')}"


def _capability(config: pytest.Config, name: str) -> str | None:
    try:
        report = capabilities(config)
    except LackingError as error:
        return str(error)
    try:
        capability = report.capability(name)
    except KeyError:
        raise UsageError(
            f"no header that pyvmm knows has {name}: name your kernel's with --kvm-headers DIR"
        ) from None
    if capability.value:
        return None
    return (
        f"{name} ({capability.number}) is 0 on {report.kernel}{_because(report, name)}; with "
        "another kernel or CPU: pytest --lab --lab-kernel IMAGE --lab-cpu max"
    )


def _because(report: "CapsReport", name: str) -> str:
    """The verdict on a capability that has one with a reason of its own."""
    if name == "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED":
        return f": {report.verdict('cacheable-pfnmap').why}"
    return ""


def _feature(config: pytest.Config, name: str) -> str | None:
    try:
        features = capabilities(config).features
    except LackingError as error:
        return str(error)
    if features is None:
        return f"needs an arm64 CPU with {name}: pytest --lab --lab-cpu max"
    has = getattr(features, name, None)
    if not isinstance(has, bool):
        raise UsageError(f"there is no feature {name!r}: it is one of fwb, dic, idc")
    return None if has else f"this CPU has no {name}: pytest --lab --lab-cpu max"


def _device(config: pytest.Config, name: str) -> str | None:
    return None if any(devices(name)) else no_device(name)


def devices(name: str) -> "Iterator[PciFunction]":
    """The PCI functions of a name that a vfio driver has. Raises `UsageError` for no name."""
    vendor, _, device = name.partition(":")
    try:
        wanted = DEVICES[name] if name in DEVICES else (int(vendor, 16), int(device, 16), "")
    except ValueError:
        raise UsageError(
            f"needs_device({name!r}): it is one of {', '.join(DEVICES)}, or vendor:device in hex"
        ) from None
    for function in assigned():
        if (function.vendor, function.device, function.driver) == wanted or (
            (function.vendor, function.device, "") == wanted
        ):
            yield function


def assigned() -> "Iterator[PciFunction]":
    """Every PCI function that a vfio driver has."""
    from pyvmm.vfio.sysfs import PCI, list_functions

    if PCI.exists():
        yield from (function for function in list_functions() if "vfio" in (function.driver or ""))


def no_device(name: str) -> str:
    """That vfio has none of that name, and what to do about it."""
    way = "lend it with python -m pyvmm --vfio BDF --bind, or take one of the lab's"
    if name in DEVICES:
        way = f"pytest --lab --lab-device {name}"
    return f"vfio has no {name} here: {way}"


_LOOKS: dict[str, Callable[[pytest.Config, str], str | None]] = {
    "needs_arch": _arch,
    "needs_cap": _capability,
    "needs_feature": _feature,
    "needs_device": _device,
}
