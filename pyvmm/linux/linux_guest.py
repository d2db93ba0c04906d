# SPDX-License-Identifier: GPL-2.0-only
"""A Linux guest from power-on to power-off or reset: VM, vCPUs, GIC, UART, PCI host bridge."""

import os
import select
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pyvmm.arch.arm64 import setup
from pyvmm.arch.arm64.vcpu_state import translate
from pyvmm.arch.arm64.vgic import create_gic, create_its, set_spi
from pyvmm.arch.arm64.walk import WalkOutput
from pyvmm.closeable import Closeable
from pyvmm.faults import (
    FaultHandler,
    Faults,
    VcpuContext,
    enable_fault_reporting,
)
from pyvmm.faults.guest_memory import peek_guest
from pyvmm.kvm.exits import Exit, Mmio, SystemEvent
from pyvmm.kvm.system import System
from pyvmm.kvm.vfio_files import VfioFiles
from pyvmm.linux.board import RAM_BASE, SPIS, UART, UART_SPI, Board
from pyvmm.linux.guest_console import GuestConsole
from pyvmm.linux.loader import LoadLayout
from pyvmm.linux.ram_bar import RamBar
from pyvmm.linux.sbsa_uart import SIZE, SbsaUart
from pyvmm.linux.uart_slot import UartSlot
from pyvmm.linux.vcpu_thread import VcpuThread
from pyvmm.machine.run_loop import Handler, mmio_handler
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.pci.bar_slots import SlotOutcome
from pyvmm.pci.counted_device import AccessCounts, CountedDevice
from pyvmm.pci.host_bridge import HostBridge
from pyvmm.uapi.kvm import KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN
from pyvmm.vfio.vfio_device import VfioDevice

_INPUT_SIZE = 256  # bytes
_POLL_INTERVAL = 0.01  # seconds between looks at the ring of characters

EndReason = Literal["power-off", "reset", "panic", "timeout", "stopped"]
_EVENTS: dict[int, EndReason] = {
    KVM_SYSTEM_EVENT_SHUTDOWN: "power-off",
    KVM_SYSTEM_EVENT_RESET: "reset",
}


@dataclass(frozen=True)
class GuestEnd:
    """The end of a guest.

    Attributes:
        reason: "stopped" if an exit that nothing handles ended it.
        last_exit: that exit, or the guest's request; None after a timeout.
    """

    reason: EndReason
    last_exit: Exit | None = None


class LinuxGuest(Closeable):
    """A VM with a board, ready to run a loaded kernel.

    Attributes:
        vm: the VM.
        bridge: the PCI host bridge with the devices.
        started: the value of time.monotonic() at the first ``KVM_RUN``.
    """

    def __init__(
        self,
        system: System,
        board: Board,
        ram: Mapping,
        layout: LoadLayout,
        devices: Sequence[VfioDevice],
        console: GuestConsole,
        faults: Faults,
        ram_bars: Sequence[RamBar] = (),
        *,
        ring: bool = True,
        flip: Collection[str] = (),
    ) -> None:
        """Create the VM. `ram` contains the kernel; without `ring`, each UART access exits.

        `faults` gets the faults of all vCPUs. `ram_bars` are those of the board. `flip` names BARs
        to register with `register_flipped`. Raises `IoctlError`, and what `RamBar.register` raises.
        """
        self._console = console
        self._faults = faults
        self._image = RAM_BASE + layout.kernel
        self._slot: UartSlot | None = None
        self.started = 0.0
        with ExitStack() as stack:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self._wake)
            page = stack.enter_context(Mapping.anonymous(PAGE_SIZE))
            self.vm = vm = stack.enter_context(system.create_vm(board.ipa_bits))
            self._lock = vm.lock  # also of all device emulation
            enable_fault_reporting(vm)
            vm.memslots.add(RAM_BASE, ram)
            for bar, window in zip(ram_bars, board.memory[1:], strict=True):
                bar.register(vm, window.start)
            vcpus = [vm.create_vcpu(index) for index in range(board.cpus)]
            for index, vcpu in enumerate(vcpus):
                setup.prepare(system, vm, vcpu, index)
            create_gic(vm, board.gic, irqs=SPIS)
            create_its(vm, board.gic)
            used = [*devices, *(bar.device for bar in ram_bars)]
            files = VfioFiles(vm) if used else None
            for device in used:
                if files:
                    files.add(device.kvm_file)
                    stack.callback(files.remove, device.kvm_file)
            self.bridge = stack.enter_context(HostBridge(vm, board.pci))
            for device in devices:
                self.bridge.add(device, flip)
            self._uart = SbsaUart(
                console.write, lambda level: set_spi(vm, UART_SPI, level), page.view()
            )
            bus, counts = self.bridge.memory, self.bridge.counts
            bus.attach(UART, SIZE, CountedDevice(self._uart, "UART", counts))
            ecam = CountedDevice(self.bridge, "PCI config space", counts)
            bus.attach(board.pci.ecam, board.pci.ecam_size, ecam)
            if ring:
                self._slot = UartSlot(vm, vcpus[0], self._uart, page, UART)
                stack.enter_context(self._slot)
            self._threads = [
                VcpuThread(vcpu, self._handlers(VcpuContext(vm, vcpu, setup, bus)), self._end)
                for vcpu in vcpus
            ]
            setup.enter(vcpus[0], self._image, (RAM_BASE + layout.tree, 0, 0, 0))
            self._owned = stack.pop_all()

    def run(self, deadline: float = float("inf"), source: int | None = None) -> GuestEnd:
        """Run the guest until it ends, or until `deadline` on the clock of time.monotonic().

        The guest's console receives what file descriptor `source` provides. Whatever ends this,
        also an exception, all vCPUs are stopped.
        """
        self.started = time.monotonic()
        sources = [self._wake] if source is None else [self._wake, source]
        try:
            for thread in self._threads:
                thread.start()
            while all(thread.is_alive() for thread in self._threads):
                ready, _, _ = select.select(sources, [], [], _POLL_INTERVAL)
                self._drain()
                if source in ready and not self._receive(source):
                    sources.remove(source)
                if time.monotonic() > deadline:
                    return GuestEnd("timeout")
            ended = next(t for t in self._threads if t.outcome or t.error)
        finally:
            for thread in self._threads:
                if thread.ident:
                    thread.stop()
            self._drain()
        if ended.error:
            raise ended.error
        assert ended.outcome
        return GuestEnd(self._reason(ended.outcome.last_exit), ended.outcome.last_exit)

    def exits(self) -> dict[str, int]:
        """Return the number of exits by kind, of all vCPUs; the guest must have ended."""
        outcomes = [thread.outcome.exits for thread in self._threads if thread.outcome]
        return dict(sum(map(Counter, outcomes), Counter[str]()))

    def accesses(self) -> AccessCounts:
        """Return the accesses that exited, by emulated device."""
        return self.bridge.counts

    def interrupts(self) -> dict[str, Counter[str]]:
        """Return the interrupts of each device that the host received, by its address."""
        functions = self.bridge.functions.values()
        return {str(each.device.function): each.interrupts.delivered for each in functions}

    def slots(self) -> list[tuple[str, SlotOutcome]]:
        """Return the outcome of each BAR's memslots where the guest last placed it."""
        return [
            (str(function.device.function), outcome)
            for function in self.bridge.functions.values()
            for bar in function.bars
            for outcome in bar.outcomes
        ]

    def image_offset(self, pc: int) -> int | None:
        """Return the byte offset in the kernel's image of GVA `pc`, or None for other code.

        The guest must have ended. The kernel may have moved itself (KASLR), so its page tables
        decide.
        """
        if not pc >> 63:  # user space
            return None
        found = translate(self.vm.vcpus[0], pc, partial(peek_guest, self.vm.memslots))
        return found.ipa - self._image if isinstance(found, WalkOutput) else None

    def close(self) -> None:
        """Close the VM; the devices stay open."""
        self._owned.close()

    def _reason(self, last_exit: Exit) -> EndReason:
        if self._console.panic:
            return "panic"
        if isinstance(last_exit, SystemEvent):
            return _EVENTS.get(last_exit.type, "stopped")
        return "stopped"

    def _end(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _drain(self) -> None:
        with self._lock:
            if self._slot:
                self._slot.drain()
            self._console.flush()

    def _receive(self, source: int) -> bool:
        """Pass input on to the guest; return False at its end."""
        data = os.read(source, _INPUT_SIZE)
        with self._lock:
            if self._slot:
                self._slot.remove()
            self._uart.receive(data)
            if self._slot:
                self._slot.update()
        return bool(data)

    def _handlers(self, context: VcpuContext) -> dict[type[Exit], Handler]:
        """Return the handlers of a vCPU's exits."""
        faults = FaultHandler(context, self._faults)
        answer = mmio_handler(context.vcpu, context.mmio)

        def mmio(exit: Mmio) -> bool:
            with self._lock:
                # Characters in the ring were written before this access.
                if self._slot:
                    self._slot.drain()
                answered = answer(exit)
                if self._slot:
                    self._slot.update()
                return answered

        return {**faults.handlers(), Mmio: faults.unless(mmio)}
