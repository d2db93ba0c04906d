# SPDX-License-Identifier: GPL-2.0-only
"""The GSI routing table of a VM: which pin or MSI each GSI of an irqfd stands for.

``KVM_SET_GSI_ROUTING`` replaces the whole table, also the default routes of the pins.
"""

from itertools import count

from pyvmm.kvm.eventfds import set_gsi_routing
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import (
    KVM_IRQ_ROUTING_IRQCHIP,
    KVM_IRQ_ROUTING_MSI,
    KVM_MSI_VALID_DEVID,
    kvm_irq_routing_entry,
)


class GsiRoutes:
    """The routes of a VM, by GSI. Each change goes to the kernel at once."""

    def __init__(self, vm: Vm) -> None:
        """Start without a route."""
        self._vm = vm
        self._entries: dict[int, kvm_irq_routing_entry] = {}
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return a GSI that nobody uses, without a route."""
        gsi = next(gsi for gsi in count() if gsi not in self._taken)
        self._taken.add(gsi)
        return gsi

    def route_spi(self, gsi: int, spi: int) -> None:
        """Route `gsi` to shared peripheral interrupt `spi` (INTID 32 + `spi`) of the GIC."""
        entry = kvm_irq_routing_entry(gsi=gsi, type=KVM_IRQ_ROUTING_IRQCHIP)
        entry.u.irqchip.pin = spi
        self._set(entry)

    def route_msi(self, gsi: int, address: int, data: int, device_id: int) -> None:
        """Route `gsi` to an MSI: a write of `data` to `address` by ITS device `device_id`."""
        entry = kvm_irq_routing_entry(gsi=gsi, type=KVM_IRQ_ROUTING_MSI, flags=KVM_MSI_VALID_DEVID)
        msi = entry.u.msi
        msi.address_lo, msi.address_hi = address & 0xFFFF_FFFF, address >> 32
        msi.data, msi.devid = data, device_id
        self._set(entry)

    def release(self, gsi: int) -> None:
        """Remove the route of `gsi`, if it has one; `take` may return it again."""
        self._taken.discard(gsi)
        if self._entries.pop(gsi, None):
            self._commit()

    def _set(self, entry: kvm_irq_routing_entry) -> None:
        self._entries[entry.gsi] = entry
        self._commit()

    def _commit(self) -> None:
        set_gsi_routing(self._vm, list(self._entries.values()))
