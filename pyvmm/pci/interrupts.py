# SPDX-License-Identifier: GPL-2.0-only
"""The interrupts of a function: INTx, MSI or MSI-X, as the guest enables them.

vfio delivers them to eventfds, and KVM injects those without an exit: MSIs through the ITS, INTx as
a level that the guest's end of interrupt lowers.
"""

import os
from collections import Counter
from dataclasses import dataclass

from pyvmm.closeable import Closeable
from pyvmm.kvm.vm import Vm
from pyvmm.pci.gsi_routes import GsiRoutes
from pyvmm.pci.msix_table import MsixTable
from pyvmm.pci.vector import Vector
from pyvmm.vfio.config import ConfigSpace
from pyvmm.vfio.irqs import Irq, count_interrupts
from pyvmm.vfio.vfio_device import VfioDevice

_CAP_ID_MSI = 0x05
# The control register of the MSI capability (PCI 3.0, 6.8.1).
MSI_ENABLE = 1 << 0
_MSI_QSIZE_SHIFT, _MSI_QSIZE = 4, 7
_MSI_64_BIT = 1 << 7
# The high byte of the MSI-X control register.
_MSIX_ENABLE = 1 << 7
_MSIX_MASK_ALL = 1 << 6
MSIX_CONTROL_BITS = _MSIX_ENABLE | _MSIX_MASK_ALL


@dataclass
class MsiCapability:
    """The MSI capability at byte `at` of config space.

    Attributes:
        enabled: the guest's enable bit. vfio ignores it until ``VFIO_DEVICE_SET_IRQS`` has enabled
            MSI (vfio_msi_config_write in drivers/vfio/pci/vfio_pci_config.c).
    """

    config: ConfigSpace
    at: int
    enabled: bool = False

    SIZE = 24

    @classmethod
    def find(cls, config: ConfigSpace) -> "MsiCapability | None":
        """Return the capability, or None."""
        at = dict(config.capabilities()).get(_CAP_ID_MSI)
        return None if at is None else cls(config, at)

    @property
    def control(self) -> int:
        """Return the control register, without the guest's enable bit."""
        return self.config.read(self.at + 2, 2)

    @property
    def vectors(self) -> int:
        """Return the number of vectors that the guest enabled; 0 if MSI is disabled."""
        if not self.enabled:
            return 0
        return 1 << (self.control >> _MSI_QSIZE_SHIFT & _MSI_QSIZE)

    @property
    def message(self) -> tuple[int, int]:
        """Return address and data of vector 0."""
        address, data = self.config.read(self.at + 4, 4), self.at + 8
        if self.control & _MSI_64_BIT:
            address |= self.config.read(self.at + 8, 4) << 32
            data = self.at + 12
        return address, self.config.read(data, 2)


class Interrupts(Closeable):
    """The interrupts of one function.

    Attributes:
        mode: ``INTx``, ``MSI`` or ``MSI-X``: the one in use; None if the function has none.
        msi: the MSI capability, or None.
        table: the MSI-X table, or None.
        msix_control: the high byte of the MSI-X control register: vfio ignores writes to it.
    """

    def __init__(
        self, vm: Vm, routes: GsiRoutes, device: VfioDevice, requester_id: int, spi: int
    ) -> None:
        """Start with INTx, at shared peripheral interrupt `spi`."""
        self._vm, self._routes, self._device = vm, routes, device
        self._requester_id, self._spi = requester_id, spi
        self._vectors: dict[int, Vector] = {}
        self._resample = -1
        self.mode: str | None = None
        self.msi = MsiCapability.find(device.config) if "MSI" in device.irqs else None
        msix = device.msix if "MSI-X" in device.irqs else None
        self.table = MsixTable(msix.vectors, self._update_vector) if msix else None
        self.msix_control = 0
        self._delivered: Counter[str] = Counter()
        self._before = 0  # of earlier guests: the host's line of INTx keeps its count
        self.update()

    @property
    def delivered(self) -> Counter[str]:
        """Return the number of interrupts that the host received from the device, by mode."""
        current = {self.mode: self._count() - self._before} if self.mode else {}
        return self._delivered + Counter(current)

    def _count(self) -> int:
        return count_interrupts(self._device.function)

    def update(self) -> None:
        """Follow a change of the function's capabilities."""
        wanted = self._wanted()
        if wanted != self.mode:
            self._stop()
            self.mode = wanted
            if wanted == "INTx":
                self._start_intx(self._device.irqs[wanted])
            elif wanted == "MSI-X":
                self._start_msix(self._device.irqs[wanted])
            self._before = self._count()
        if wanted == "MSI" and self.msi:
            self._update_msi(self._device.irqs[wanted], self.msi)
        elif wanted == "MSI-X" and self.table:
            for vector in range(self.table.vectors):
                self._update_vector(vector)

    def is_pending(self, number: int) -> bool:
        """Return True if an interrupt of MSI-X vector `number` waits until it is unmasked."""
        vector = self._vectors.get(number) if self.mode == "MSI-X" else None
        return bool(vector and vector.pending)

    def _wanted(self) -> str | None:
        if self.table and self.msix_control & _MSIX_ENABLE:
            return "MSI-X"
        if self.msi and self.msi.vectors:
            return "MSI"
        return "INTx" if "INTx" in self._device.irqs else None

    def _start_intx(self, irq: Irq) -> None:
        # vfio masks INTx when it fires, and the guest's end of interrupt unmasks it: KVM signals
        # the second eventfd then.
        vector = self._vectors[0] = Vector(self._vm, self._routes)
        self._resample = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._routes.route_spi(vector.gsi, self._spi)
        vector.attach(self._resample)
        irq.enable([vector.eventfd])
        irq.unmask_on(self._resample)

    def _start_msix(self, irq: Irq) -> None:
        # Without noresize, the kernel allocates vectors when the guest unmasks them.
        irq.enable([None] * (irq.count if "noresize" in irq.flags else 1))

    def _update_vector(self, number: int) -> None:
        """Attach or detach an MSI-X vector, as its mask and the function's say."""
        if self.mode != "MSI-X" or self.table is None:
            return
        message, vector = self.table[number], self._vectors.get(number)
        if message.masked or self.msix_control & _MSIX_MASK_ALL:
            if vector:
                vector.detach()
            return
        if vector is None:
            vector = self._vectors[number] = Vector(self._vm, self._routes)
        elif vector.attached and vector.message == (message.address, message.data):
            return
        is_new = vector.message is None
        vector.route(message.address, message.data, self._requester_id)
        vector.attach()
        if is_new:
            self._device.irqs["MSI-X"].enable([vector.eventfd], start=number)

    def _update_msi(self, irq: Irq, capability: MsiCapability) -> None:
        count = min(capability.vectors, irq.count)
        if count != len(self._vectors):
            self._stop()
            self._vectors = {n: Vector(self._vm, self._routes) for n in range(count)}
        address, data = capability.message
        for number, vector in self._vectors.items():
            # The function replaces the low bits of the data by the vector's number.
            vector.route(address, data & -count | number, self._requester_id)
            vector.attach()
        if not irq.enabled:
            irq.enable([vector.eventfd for vector in self._vectors.values()])

    def _stop(self) -> None:
        self._delivered = self.delivered
        if self.mode and (irq := self._device.irqs[self.mode]).enabled:
            irq.disable()
        for vector in self._vectors.values():
            vector.close()
        self._vectors.clear()
        if self._resample >= 0:
            os.close(self._resample)
            self._resample = -1

    def close(self) -> None:
        """Disable the interrupts, and close their eventfds. Idempotent."""
        self._stop()
        self.mode = None
