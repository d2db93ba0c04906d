# SPDX-License-Identifier: GPL-2.0-only
"""PCI functions and IOMMU groups in sysfs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pyvmm.errors import LackingError, UsageError
from pyvmm.vfio.bdf import Bdf

PCI = Path("/sys/bus/pci")
IOMMU_GROUPS = Path("/sys/kernel/iommu_groups")

_BRIDGE_CLASS = 0x06


@dataclass(frozen=True)
class IommuGroup:
    """An IOMMU group (``struct iommu_group``): functions that the IOMMU cannot isolate."""

    number: int

    @property
    def path(self) -> Path:
        """Return the group's directory in sysfs."""
        return IOMMU_GROUPS / str(self.number)

    def members(self) -> list["PciFunction"]:
        """Return the PCI functions in the group, sorted by address."""
        names = sorted(entry.name for entry in (self.path / "devices").iterdir())
        return [PciFunction(Bdf.parse(name)) for name in names if (PCI / "devices" / name).exists()]


@dataclass(frozen=True)
class PciFunction:
    """A PCI function (``struct pci_dev``). Each property reads sysfs anew.

    A property raises `LackingError` if the function was removed.
    """

    bdf: Bdf

    @classmethod
    def find(cls, address: str | Bdf) -> Self:
        """Return the function at `address`. Raises `UsageError` if it is malformed or unknown."""
        function = cls(Bdf.parse(address) if isinstance(address, str) else address)
        if not function.path.exists():
            raise UsageError(
                f"PCI device {function.bdf} does not exist: lspci -D lists the devices"
            )
        return function

    @property
    def path(self) -> Path:
        """Return the function's directory in sysfs."""
        return PCI / "devices" / str(self.bdf)

    @property
    def vendor(self) -> int:
        """Return the vendor ID."""
        return self._hex("vendor")

    @property
    def device(self) -> int:
        """Return the device ID."""
        return self._hex("device")

    @property
    def class_code(self) -> int:
        """Return base class, subclass and programming interface, one byte each."""
        return self._hex("class")

    @property
    def is_bridge(self) -> bool:
        """Return True for base class 06, bridges."""
        return self.class_code >> 16 == _BRIDGE_CLASS

    @property
    def is_virtual(self) -> bool:
        """Return True for a virtual function (VF) of SR-IOV."""
        return (self.path / "physfn").is_symlink()

    @property
    def modalias(self) -> str:
        """Return the module alias, ``pci:v…``."""
        return self._read("modalias")

    @property
    def driver(self) -> str | None:
        """Return the name of the bound driver, or None."""
        link = self.path / "driver"
        return link.readlink().name if link.is_symlink() else None

    @property
    def driver_override(self) -> str | None:
        """Return the only driver that may bind to the function, or None for no restriction."""
        text = self._read("driver_override")
        return None if text in ("", "(null)") else text

    @property
    def group(self) -> IommuGroup | None:
        """Return the IOMMU group, or None if no IOMMU translates the function's DMA."""
        link = self.path / "iommu_group"
        return IommuGroup(int(link.readlink().name)) if link.is_symlink() else None

    def require_group(self) -> IommuGroup:
        """Return the IOMMU group. Raises `LackingError` if there is none."""
        if group := self.group:
            return group
        raise LackingError(
            f"{self.bdf} has no IOMMU group: enable the IOMMU (VT-d, AMD-Vi, SMMU) in the "
            "firmware; boot without iommu=off and, on Intel, with intel_iommu=on"
        )

    @property
    def cdev(self) -> str | None:
        """Return the name of its vfio cdev in /dev/vfio/devices, or None."""
        return next((entry.name for entry in self._entries("vfio-dev")), None)

    @property
    def is_boot_display(self) -> bool:
        """Return True if the firmware used this function as the boot display."""
        return (self.path / "boot_vga").exists() and self._read("boot_vga") == "1"

    def _entries(self, folder: str) -> Iterator[Path]:
        path = self.path / folder
        return path.iterdir() if path.is_dir() else iter(())

    def _hex(self, attribute: str) -> int:
        return int(self._read(attribute), 16)

    def _read(self, attribute: str) -> str:
        try:
            return (self.path / attribute).read_text().strip()
        except OSError as error:
            raise LackingError(
                f"PCI device {self.bdf} was removed: cannot read {attribute} ({error.strerror})"
            ) from None

    def __str__(self) -> str:
        """Return the address as sysfs writes it."""
        return str(self.bdf)


def list_functions() -> list[PciFunction]:
    """Return every PCI function of the host, sorted by address."""
    return [PciFunction(Bdf.parse(p.name)) for p in sorted((PCI / "devices").iterdir())]
