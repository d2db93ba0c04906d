# SPDX-License-Identifier: GPL-2.0-only
"""Binding a PCI function to a vfio driver for a while, and back to its own driver.

The files are ``driver_override``, ``drivers_probe`` and each driver's ``bind`` and ``unbind``
(Documentation/ABI/testing/sysfs-bus-pci).
"""

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from pyvmm.closeable import Closeable
from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.helper_process import HelperProcess
from pyvmm.vfio.host_use import host_uses
from pyvmm.vfio.sysfs import PCI, PciFunction

# Drivers with driver_managed_dma in their struct pci_driver. They do no DMA for the host, so a
# group whose members have them is viable.
_DRIVER_MANAGED_DMA = {"vfio-pci", "pci-stub", "pcieport"}


@contextmanager
def bind_to_vfio(function: PciFunction, driver: str | None = None) -> Iterator[str]:
    """Bind `function` to a vfio driver within the block; rebind its own driver afterwards.

    Yields the name of the vfio driver. `driver` selects it. The default is the variant driver
    for this device, or else vfio-pci. A function that a vfio driver has already is left as it is.
    A helper process restores the driver, whatever ends the block or this process, SIGKILL included.

    Within the block, close every fd and mapping of the device, and remove its file from KVM
    (``KVM_DEV_VFIO_FILE_DEL``). Otherwise the unbind waits for them forever.

    Raises `UsageError` if the host uses the function. Raises `LackingError` if it has no IOMMU
    group, if another member of the group has a host driver, if the vfio driver is missing, or if
    sysfs is not writable. Raises `PyvmmError` if the kernel rejects a change of driver.
    """
    before = function.driver
    if driver in (None, before) and (kept := kept_driver(function)):
        yield kept
        return
    require_unused(function)
    driver = driver or vfio_driver_for(function)
    with ExitStack() as stack:
        # Closed within the block: a sandboxed process is left no descriptor of sysfs.
        with _Rebinding(function, before, driver) as rebinding:
            guardian = HelperProcess(lambda _: rebinding.restore(), rebinding.descriptors)
            stack.callback(_return, guardian, function, before)
            rebinding.bind()
        yield driver


def kept_driver(function: PciFunction) -> str | None:
    """Return the vfio driver that `bind_to_vfio` would leave as it is, or None.

    A run whose helper process was killed leaves one.
    """
    return function.driver if function.driver and not has_host_driver(function) else None


def how_to_return(function: PciFunction) -> str:
    """Return the shell commands that give `function` back to the driver the kernel chooses."""
    return (
        f"echo > {function.path}/driver_override; "
        f"echo {function} > {function.path}/driver/unbind; "
        f"echo {function} > {PCI}/drivers_probe"
    )


def _return(guardian: HelperProcess, function: PciFunction, before: str | None) -> None:
    """Let the guardian restore the driver `before`. Raises `PyvmmError`."""
    if error := guardian.finish():
        raise PyvmmError(
            f"{function} is not back with {before or 'no driver'}: {error}; "
            f"repeat it by hand: {how_to_return(function)}"
        )


def require_unused(function: PciFunction) -> None:
    """Raise `UsageError` if the host uses `function`, or see `require_viable_group`."""
    if uses := host_uses(function):
        raise UsageError(
            f"{function} is in use by the host ({'; '.join(uses)}): "
            "stop that use, or choose another device"
        )
    require_viable_group(function)


def require_viable_group(function: PciFunction) -> None:
    """Raise `LackingError` if the IOMMU group of `function` is missing or not viable.

    All members of a group share one IO address space, so none may have a host driver.
    """
    group = function.require_group()
    others = [m for m in group.members() if m != function and has_host_driver(m)]
    if others:
        bound = ", ".join(f"{member} ({member.driver})" for member in others)
        raise LackingError(
            f"IOMMU group {group.number} of {function} has devices with host drivers: {bound}; "
            "unbind them or bind them to vfio-pci"
        )


def has_host_driver(function: PciFunction) -> bool:
    """Return True if a driver is bound that does DMA for the host."""
    return bool(
        function.driver and not function.cdev and function.driver not in _DRIVER_MANAGED_DMA
    )


def vfio_driver_for(function: PciFunction) -> str:
    """Return the most specific vfio driver for `function` and load its module.

    Raises `LackingError`.
    """
    module = vfio_module_for(function.modalias, _aliases())
    driver = _driver_of(module)
    if not driver:
        _load(module)
        driver = _driver_of(module)
    if not driver:
        raise LackingError(f"module {module} is loaded but registered no PCI driver: check dmesg")
    return driver


def vfio_module_for(modalias: str, aliases: Iterable[tuple[str, str]]) -> str:
    """Return the vfio module for a PCI `modalias`, given pairs of pattern and module.

    A variant driver has module aliases ``vfio_pci:v…`` for its devices, and vfio-pci has one that
    matches every device (``PCI_ID_F_VFIO_DRIVER_OVERRIDE`` in linux/mod_devicetable.h). The
    pattern with the fewest wildcards is the most specific.
    """
    fitting = [alias for alias in aliases if fnmatchcase(f"vfio_{modalias}", alias[0])]
    return min(fitting, key=lambda alias: alias[0].count("*"), default=("", "vfio_pci"))[1]


def _driver_of(module: str) -> str | None:
    """Return the PCI driver of a vfio module. It has the module's name, with - or _."""
    names = [entry.name for entry in (PCI / "drivers").iterdir()]
    return next((name for name in names if name.replace("-", "_") == module), None)


def _aliases() -> Iterator[tuple[str, str]]:
    """Yield pattern and module of every vfio alias, loadable and built-in."""
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
        raise LackingError(
            f"module {module} is not loaded, and modprobe is not installed: load the module"
        ) from None
    if done.returncode:
        why = done.stderr.strip().replace("\n", "; ")
        raise LackingError(f"cannot load module {module}: {why}")


class _Attribute(Closeable):
    """A sysfs attribute that is open for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except PermissionError:
            raise LackingError(
                f"cannot write {path}: permission denied; run as root to change the driver"
            ) from None

    def write(self, text: str) -> None:
        try:
            os.write(self.fd, text.encode())
        except OSError as error:
            raise PyvmmError(
                f"cannot write {text.strip()!r} to {self._path}: {error.strerror}; check dmesg"
            ) from None

    def close(self) -> None:
        os.close(self.fd)


class _Rebinding(Closeable):
    """A change of driver and its reversal.

    All files are opened before the change: if this user may not write one, nothing changes.
    """

    def __init__(self, function: PciFunction, before: str | None, driver: str) -> None:
        drivers = PCI / "drivers"
        if not (drivers / driver).exists():
            raise LackingError(f"this kernel has no PCI driver {driver}: load its module")
        self._function, self._before, self._driver = function, before, driver
        self._override_before = function.driver_override
        self.descriptors: list[int] = []
        with ExitStack() as stack:

            def attribute(path: Path) -> _Attribute:
                opened = stack.enter_context(_Attribute(path))
                self.descriptors.append(opened.fd)
                return opened

            self._override = attribute(function.path / "driver_override")
            self._probe = attribute(PCI / "drivers_probe")
            self._unbind = attribute(drivers / driver / "unbind")
            if before:
                self._unbind_before = attribute(drivers / before / "unbind")
                self._bind_before = attribute(drivers / before / "bind")
            self._owned = stack.pop_all()

    def bind(self) -> None:
        function = self._function
        self._override.write(self._driver)
        if self._before:
            self._unbind_before.write(str(function))
        self._probe.write(str(function))
        if function.driver != self._driver:
            raise LackingError(
                f"{self._driver} did not bind to {function}: check dmesg for its reason"
            )

    def restore(self) -> None:
        function = self._function
        if not function.path.exists():
            return  # the device was removed meanwhile
        self._override.write(self._override_before or "\n")
        if self._driver != self._before and function.driver == self._driver:
            self._unbind.write(str(function))
        if self._before and not function.driver:
            self._bind_before.write(str(function))

    def close(self) -> None:
        self._owned.close()
