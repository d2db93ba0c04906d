# SPDX-License-Identifier: GPL-2.0-only
"""A UART without an exit per character.

Its registers are a read-only memslot, so reads do not exit. Writes of characters go to the ring of
coalesced MMIO. While received bytes wait, the memslot is deleted: reads of DR must exit then.
"""

from contextlib import ExitStack

from pyvmm.closeable import Closeable
from pyvmm.kvm.coalesced_mmio import CoalescedRing, coalesced_mmio
from pyvmm.kvm.memslots import Memslot
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.linux.sbsa_uart import DR, ICR, SbsaUart
from pyvmm.memory import Mapping

_COALESCED = (DR, ICR)


class UartSlot(Closeable):
    """The memslot and the ring of a UART whose `registers` are the start of `page`."""

    def __init__(self, vm: Vm, vcpu: Vcpu, uart: SbsaUart, page: Mapping, gpa: int) -> None:
        """Register `page` at `gpa`, and coalesce the writes of characters. Raises `IoctlError`."""
        self._vm, self._uart, self._page, self._gpa = vm, uart, page, gpa
        self._ring = CoalescedRing(vm, vcpu)
        self._slot: Memslot | None = None
        with ExitStack() as stack:
            for register in _COALESCED:
                stack.enter_context(coalesced_mmio(vm, gpa + register, 4))
            self.update()
            self._owned = stack.pop_all()

    def update(self) -> None:
        """Register the memslot if no received bytes wait, or else delete it."""
        if self._uart.waiting:
            self.remove()
        elif not self._uart.waiting and not self._slot:
            self._slot = self._vm.memslots.add(self._gpa, self._page, readonly=True)

    def remove(self) -> None:
        """Delete the memslot. Idempotent.

        Call it before the UART receives bytes: with them in FR, the guest would read zeros from DR
        through the memslot.
        """
        if self._slot:
            self._vm.memslots.remove(self._slot)
            self._slot = None

    def drain(self) -> None:
        """Pass the writes in the ring on to the UART."""
        for write in self._ring.drain():
            self._uart.write(write.address - self._gpa, write.size, write.value)

    def close(self) -> None:
        """Delete the memslot and stop coalescing."""
        self._owned.close()
        self.remove()
