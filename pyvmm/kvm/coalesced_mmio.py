# SPDX-License-Identifier: GPL-2.0-only
"""Coalesced MMIO: guest writes that KVM collects in a ring, so that they cost no exit each."""

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
    """One collected write: `size` bytes of `value` (little-endian) at a GPA, or a port."""

    address: int
    size: int
    value: int
    port: bool


@contextlib.contextmanager
def coalesced_mmio(vm: Vm, address: int, size: int, *, port: bool = False) -> Iterator[None]:
    """``KVM_REGISTER_COALESCED_MMIO`` over `size` bytes from a GPA (or an x86 port).

    Writes there wait in the ring (`CoalescedRing`) until the next exit, or until the ring is full.
    """
    zone = kvm_coalesced_mmio_zone(addr=address, size=size, pio=port)
    vm.ioctl(KVM_REGISTER_COALESCED_MMIO, zone)
    try:
        yield
    finally:
        vm.ioctl(KVM_UNREGISTER_COALESCED_MMIO, zone)


class CoalescedRing:
    """The ring of a VM, in the pages of `vcpu`'s ``struct kvm_run`` (any vCPU's will do)."""

    def __init__(self, vm: Vm, vcpu: Vcpu) -> None:
        page = vm.check(KVM_CAP_COALESCED_MMIO)  # how many pages after struct kvm_run's first
        header, entry = ctypes.sizeof(kvm_coalesced_mmio_ring), ctypes.sizeof(kvm_coalesced_mmio)
        self._room = (PAGE_SIZE - header) // entry
        ring = kvm_coalesced_mmio_ring.with_room(self._room)
        self._ring = ring.from_address(vcpu.mapping.hva + page * PAGE_SIZE)

    def drain(self) -> Iterator[CoalescedWrite]:
        """Take out what has been collected, oldest first."""
        ring = self._ring
        while ring.first != ring.last:
            entry = ring.coalesced_mmio[ring.first]
            value = int.from_bytes(entry.data[: entry.len], "little")
            yield CoalescedWrite(entry.phys_addr, entry.len, value, bool(entry.pio))
            ring.first = (ring.first + 1) % self._room
