# SPDX-License-Identifier: GPL-2.0-only
"""What sysfs says of a PCI function: its identity, its driver, its IOMMU group, its vfio cdev."""

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
    """An IOMMU group: the functions that the IOMMU cannot tell apart (``struct iommu_group``)."""

    number: int

    @property
    def path(self) -> Path:
        return IOMMU_GROUPS / str(self.number)

    def members(self) -> list["PciFunction"]:
        """Every PCI function in the group, in the order of their addresses."""
        names = sorted(entry.name for entry in (self.path / "devices").iterdir())
        return [PciFunction(Bdf.parse(name)) for name in names if (PCI / "devices" / name).exists()]


@dataclass(frozen=True)
class PciFunction:
    """A PCI function that exists (``struct pci_dev``), read anew from sysfs at each question."""

    bdf: Bdf

    @classmethod
    def find(cls, address: str | Bdf) -> Self:
        """The function at `address`. Raises `UsageError` for a malformed or unknown one."""
        function = cls(Bdf.parse(address) if isinstance(address, str) else address)
        if not function.path.exists():
            raise UsageError(
                f"there is no PCI device {function.bdf}: lspci -D lists those there are"
            )
        return function

    @property
    def path(self) -> Path:
        return PCI / "devices" / str(self.bdf)

    @property
    def vendor(self) -> int:
        return self._hex("vendor")

    @property
    def device(self) -> int:
        return self._hex("device")

    @property
    def class_code(self) -> int:
        """Base class, subclass and programming interface, a byte each."""
        return self._hex("class")

    @property
    def is_bridge(self) -> bool:
        return self.class_code >> 16 == _BRIDGE_CLASS

    @property
    def modalias(self) -> str:
        return self._read("modalias")

    @property
    def driver(self) -> str | None:
        """The driver that holds the function, None where none does."""
        link = self.path / "driver"
        return link.readlink().name if link.is_symlink() else None

    @property
    def driver_override(self) -> str | None:
        """The only driver that may probe the function, None where any that matches may."""
        text = self._read("driver_override")
        return None if text in ("", "(null)") else text

    @property
    def group(self) -> IommuGroup | None:
        """The IOMMU group, None where no IOMMU translates for the function."""
        link = self.path / "iommu_group"
        return IommuGroup(int(link.readlink().name)) if link.is_symlink() else None

    def require_group(self) -> IommuGroup:
        """The IOMMU group. Raises `LackingError` where there is none."""
        if group := self.group:
            return group
        raise LackingError(
            f"{self.bdf} has no IOMMU group: turn the IOMMU (VT-d, AMD-Vi, SMMU) on in the "
            "firmware, and boot with intel_iommu=on where it is Intel's, nowhere with iommu=off"
        )

    @property
    def cdev(self) -> str | None:
        """The name under /dev/vfio/devices, None where no vfio driver made one."""
        return next((entry.name for entry in self._entries("vfio-dev")), None)

    @property
    def is_boot_display(self) -> bool:
        """Whether the firmware put its first picture on this function."""
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
            raise LackingError(f"{self.bdf} has gone: {error.strerror}") from None

    def __str__(self) -> str:
        return str(self.bdf)


def list_functions() -> list[PciFunction]:
    """Every PCI function of the machine, in the order of their addresses."""
    return [PciFunction(Bdf.parse(p.name)) for p in sorted((PCI / "devices").iterdir())]
