# SPDX-License-Identifier: GPL-2.0-only
"""Coalesced MMIO: guest writes that KVM stores in a ring instead of exiting."""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import NamedTuple

from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import (
    KVM_CAP_COALESCED_MMIO,
    KVM_REGISTER_COALESCED_MMIO,
    KVM_UNREGISTER_COALESCED_MMIO,
    kvm_coalesced_mmio,
    kvm_coalesced_mmio_ring,
    kvm_coalesced_mmio_zone,
)


class CoalescedWrite(NamedTuple):
    """A write from the ring: `size` bytes of `value`, at a GPA or (`port`) an x86 port."""

    address: int
    size: int
    value: int
    port: bool


@contextlib.contextmanager
def coalesced_mmio(vm: Vm, address: int, size: int, *, port: bool = False) -> Iterator[None]:
    """Coalesce writes to `size` bytes at a GPA or x86 port (``KVM_REGISTER_COALESCED_MMIO``).

    KVM stores the writes in the VM's ring (`CoalescedRing`). If the ring is full, a write exits.
    The zone is unregistered at the end. Raises `IoctlError`.
    """
    zone = kvm_coalesced_mmio_zone(addr=address, size=size, pio=port)
    vm.ioctl(KVM_REGISTER_COALESCED_MMIO, zone)
    try:
        yield
    finally:
        vm.ioctl(KVM_UNREGISTER_COALESCED_MMIO, zone)


class CoalescedRing:
    """The ring of coalesced writes of a VM, in the mapping of any of its vCPU fds."""

    def __init__(self, vm: Vm, vcpu: Vcpu) -> None:
        """Find the ring in the mapping of `vcpu`."""
        page = vm.check(KVM_CAP_COALESCED_MMIO)  # page offset in the mapping
        header, entry = ctypes.sizeof(kvm_coalesced_mmio_ring), ctypes.sizeof(kvm_coalesced_mmio)
        self._room = (PAGE_SIZE - header) // entry
        ring = kvm_coalesced_mmio_ring.with_room(self._room)
        self._ring = ring.from_address(vcpu.mapping.hva + page * PAGE_SIZE)

    def drain(self) -> Iterator[CoalescedWrite]:
        """Remove and yield the writes in the ring, oldest first."""
        ring = self._ring
        while ring.first != ring.last:
            entry = ring.coalesced_mmio[ring.first]
            value = int.from_bytes(entry.data[: entry.len], "little")
            yield CoalescedWrite(entry.phys_addr, entry.len, value, bool(entry.pio))
            ring.first = (ring.first + 1) % self._room
