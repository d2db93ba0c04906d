# SPDX-License-Identifier: GPL-2.0-only
"""A BAR of cacheable device memory that is RAM of the guest."""

from dataclasses import dataclass

from pyvmm.closeable import Closeable
from pyvmm.errors import LackingError, SkippedError, UsageError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.memslots import MemslotError
from pyvmm.kvm.vm import Vm
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.region_backing import map_backed
from pyvmm.vfio.vfio_device import VfioDevice


@dataclass(frozen=True)
class RamBarName:
    """A BAR of the function at `address`, such as ``BAR4``."""

    address: Bdf
    bar: str

    @classmethod
    def parse(cls, text: str) -> "RamBarName":
        """Parse ``BDF=BAR``. Raises `UsageError`."""
        address, _, bar = text.partition("=")
        if not bar:
            raise UsageError(f"--ram-bar {text}: write BDF=BAR, such as 0000:01:00.0=BAR4")
        return cls(Bdf.parse(address), bar.upper())


class RamBar(Closeable):
    """A mapped BAR whose device decodes memory. The guest does not see the device itself.

    Attributes:
        device: the open vfio device.
        size: bytes.
    """

    def __init__(self, device: VfioDevice, bar: str) -> None:
        """Map the BAR. Raises `UsageError` if not all of it can be mapped."""
        region = device.regions.get(bar)
        self._name = f"{device.function} {bar}"
        if region is None or device.config.is_port_bar(region.index):
            raise UsageError(f"--ram-bar: {device.function} has no memory {bar}")
        device.config.enable_memory()
        self._mapping, backing = map_backed(device, region)
        backing.name, backing.is_ram = "RAM", True
        if self._mapping.emulated:
            self._mapping.close()
            raise UsageError(f"--ram-bar: vfio does not map all of {self._name}")
        self.device = device
        self.size = region.size

    def map_for_dma(self, device: VfioDevice, gpa: int) -> None:
        """Let the DMA of another device reach the BAR at `gpa`. Raises `LackingError`."""
        mapping = self._mapping
        try:
            device.dma.map_bar(gpa, mapping.region, mapping.memory, at=0, size=self.size)
        except IoctlError as error:
            raise LackingError(
                f"the DMA of {device.function} cannot reach {self._name} in IOMMU mode "
                f"{device.dma.mode}, so it cannot be RAM: {error.why or error.strerror}; pass "
                "--iommu-mode vfio_type1v2_iommu"
            ) from None

    def register(self, vm: Vm, gpa: int) -> None:
        """Register the BAR as a memslot at `gpa`.

        Raises `SkippedError` if KVM rejects cacheable device memory, and `UsageError` for a BAR
        that is not cacheable, as far as KVM's answer shows it.
        """
        try:
            vm.memslots.add(gpa, self._mapping.memory, size=self.size)
        except MemslotError as error:
            raise SkippedError(f"{self._name} cannot be RAM of the guest: {error.why}") from None
        if vm.host.rejects_cacheable_pfnmap:
            raise UsageError(f"{self._name} cannot be RAM of the guest: it is not cacheable")

    def close(self) -> None:
        """Unmap the BAR; the VM must be closed."""
        self._mapping.close()
