# SPDX-License-Identifier: GPL-2.0-only
"""Coalesced MMIO: guest writes that KVM stores in a ring instead of exiting."""

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import (
    KVM_CAP_COALESCED_MMIO,
    KVM_REGISTER_COALESCED_MMIO,
    KVM_UNREGISTER_COALESCED_MMIO,
    kvm_coalesced_mmio_ring,
    kvm_coalesced_mmio_zone,
)

_ENTRY = struct.Struct("<QIIQ")  # struct kvm_coalesced_mmio: phys_addr, len, pio, data


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
        self._entries = ctypes.sizeof(kvm_coalesced_mmio_ring)
        self._room = (PAGE_SIZE - self._entries) // _ENTRY.size
        ring = kvm_coalesced_mmio_ring.with_room(self._room)
        self._ring = ring.from_address(vcpu.mapping.hva + page * PAGE_SIZE)
        self._view = vcpu.mapping.view(at=page * PAGE_SIZE, size=PAGE_SIZE)

    def drain(self) -> Iterator[CoalescedWrite]:
        """Remove and yield the writes in the ring, oldest first."""
        ring = self._ring
        while (first := ring.first) != (last := ring.last):
            end = last if last > first else self._room
            at, entry = self._entries, _ENTRY.size
            writes = bytes(self._view[at + first * entry : at + end * entry])
            ring.first = end % self._room
            for address, size, port, value in _ENTRY.iter_unpack(writes):
                yield CoalescedWrite(address, size, value & (1 << 8 * size) - 1, bool(port))
