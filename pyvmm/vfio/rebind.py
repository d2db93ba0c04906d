# SPDX-License-Identifier: GPL-2.0-only
"""Lend a PCI function to vfio for a while: driver_override, unbind, probe, and back again.

The kernel side is Documentation/ABI/testing/sysfs-bus-pci: ``driver_override``, ``drivers_probe``
and each driver's ``bind`` and ``unbind``.
"""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.vfio.host_use import host_uses
from pyvmm.vfio.sysfs import PCI, PciFunction

# Drivers that leave DMA to user space (driver_managed_dma in their struct pci_driver), and so may
# hold other members of a group while one of them is assigned.
_LEAVE_DMA_ALONE = {"vfio-pci", "pci-stub", "pcieport"}


@contextmanager
def bind_to_vfio(function: PciFunction, driver: str | None = None) -> Iterator[str]:
    """``with bind_to_vfio(function):`` vfio has the function; afterwards its driver has it back.

    `driver` is the vfio driver's name; by default the variant driver that the kernel made for
    this device, or else vfio-pci. Yields the name of the driver that has it. A function that a
    vfio driver holds already is left alone, now and afterwards. Afterwards means on every way out
    but SIGKILL; SIGINT and SIGTERM wait until the function is where it was.

    Inside the ``with``, close every fd and mapping of the device, and make KVM let go of its file
    (``KVM_DEV_VFIO_FILE_DEL``): the kernel waits for all of them before it unbinds, for ever.

    Raises `UsageError` where the host uses the function, and `LackingError` where it has no IOMMU
    group, its group has members with drivers, the vfio driver is missing, or we may not bind.
    """
    before, override = function.driver, function.driver_override
    if driver in (None, before) and before and not has_host_driver(function):
        yield before
        return
    require_unused(function)
    driver = driver or vfio_driver_for(function)
    try:
        with _undisturbed():
            _take(function, driver)
        yield driver
    finally:
        with _undisturbed():
            _give_back(function, before, override)


def require_unused(function: PciFunction) -> None:
    """Raise for a function that must not be taken from the host; see `bind_to_vfio`."""
    if uses := host_uses(function):
        raise UsageError(f"{function} stays with the host: {'; '.join(uses)}")
    require_viable_group(function)


def require_viable_group(function: PciFunction) -> None:
    """Raise `LackingError` where the function's IOMMU group is missing or not viable.

    DMA of all members goes through one address space, so none may have a driver of the host's.
    """
    group = function.require_group()
    others = [m for m in group.members() if m != function and has_host_driver(m)]
    if others:
        held = ", ".join(f"{member} ({member.driver})" for member in others)
        raise LackingError(
            f"{function} shares IOMMU group {group.number} with devices that have drivers: {held}: "
            "unbind those or give them to vfio-pci too"
        )


def has_host_driver(function: PciFunction) -> bool:
    """Whether a driver holds the function that does DMA for the host."""
    return bool(function.driver and not function.cdev and function.driver not in _LEAVE_DMA_ALONE)


def vfio_driver_for(function: PciFunction) -> str:
    """The vfio driver that fits the function best, its module loaded. Raises `LackingError`."""
    module = vfio_module_for(function.modalias, _aliases())
    driver = _driver_of(module)
    if not driver:
        _load(module)
        driver = _driver_of(module)
    if not driver:
        raise LackingError(f"the module {module} brought no PCI driver with it")
    return driver


def vfio_module_for(modalias: str, aliases: Iterable[tuple[str, str]]) -> str:
    """The vfio module for a PCI `modalias`, among patterns and the modules that they stand for.

    Variant drivers announce the devices they were made for in module aliases ``vfio_pci:v…``,
    beside vfio-pci's own, which matches everything (``PCI_ID_F_VFIO_DRIVER_OVERRIDE`` in
    linux/mod_devicetable.h). The pattern with the fewest wildcards says the most.
    """
    fitting = [alias for alias in aliases if fnmatchcase(f"vfio_{modalias}", alias[0])]
    return min(fitting, key=lambda alias: alias[0].count("*"), default=("", "vfio_pci"))[1]


def _driver_of(module: str) -> str | None:
    """The PCI driver that a vfio module registers: it has the module's name, with - or _."""
    names = [entry.name for entry in (PCI / "drivers").iterdir()]
    return next((name for name in names if name.replace("-", "_") == module), None)


def _aliases() -> Iterator[tuple[str, str]]:
    """Pattern and module of every vfio alias, of loadable modules and of built-in ones."""
    modules = Path("/lib/modules") / os.uname().release
    loadable, builtin = modules / "modules.alias", modules / "modules.builtin.modinfo"
    for line in loadable.open() if loadable.exists() else ():
        if line.startswith("alias vfio_pci:"):
            _, pattern, module = line.split()
            yield pattern, module
    for entry in builtin.read_text().split("\0") if builtin.exists() else ():
        module, _, pattern = entry.partition(".alias=vfio_pci:")
        if pattern:
            yield f"vfio_pci:{pattern}", module


def _load(module: str) -> None:
    try:
        done = subprocess.run(["modprobe", module], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LackingError(f"this kernel has no {module}, and there is no modprobe") from None
    if done.returncode:
        why = done.stderr.strip().replace("\n", "; ")
        raise LackingError(f"the module {module} can't be loaded: {why}")


def _take(function: PciFunction, driver: str) -> None:
    if not (PCI / "drivers" / driver).exists():
        raise LackingError(f"this kernel has no PCI driver {driver}: load its module")
    _write(function.path / "driver_override", driver)
    if function.driver:
        _write(function.path / "driver" / "unbind", str(function))
    _write(PCI / "drivers_probe", str(function))
    if function.driver != driver:
        raise LackingError(f"{driver} does not want {function}: dmesg may say why")


def _give_back(function: PciFunction, before: str | None, override: str | None) -> None:
    if not function.path.exists():
        return  # pulled out meanwhile: there is nothing to give back
    if function.driver_override != override:
        _write(function.path / "driver_override", override or "\n")
    if function.driver != before:
        if function.driver:
            _write(function.path / "driver" / "unbind", str(function))
        if before:
            _write(PCI / "drivers" / before / "bind", str(function))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except PermissionError:
        raise LackingError(f"may not write {path}: binding a driver takes root") from None
    except OSError as error:
        raise PyvmmError(f"writing {text.strip()!r} to {path} failed: {error.strerror}") from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put SIGINT and SIGTERM off until a change of drivers is whole."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
