# SPDX-License-Identifier: GPL-2.0-only
"""A small machine: RAM, a console, one vCPU, and devices on its buses.

The memory map is the same on arm64 and x86::

    0x4000_0000  the guest's page tables, written by the VMM
    0x4010_0000  the payload's argument block
    0x4020_0000  the payload, and RAM to the end
"""

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cached_property
from typing import BinaryIO

from pyvmm.arch.native import native
from pyvmm.arch.page_tables import MemoryType, PageTables, Window, identity
from pyvmm.bus import Bus
from pyvmm.closeable import Closeable
from pyvmm.errors import UsageError
from pyvmm.faults import FaultHandler, Faults, VcpuContext, enable_fault_reporting, poison
from pyvmm.guest.payload import Payload
from pyvmm.kvm.exits import Io, Mmio
from pyvmm.kvm.system import System
from pyvmm.kvm.vfio_files import VfioFiles
from pyvmm.machine.console import Console
from pyvmm.machine.run_loop import Handlers, RunOutcome, mmio_handler, port_handler, run
from pyvmm.memory.mapping import Mapping

RAM_BASE = 0x4000_0000
ARGUMENT_BLOCK = 0x4010_0000
ENTRY = 0x4020_0000
MINIMUM_RAM = 4 << 20


class Machine(Closeable):
    """A virtual machine with one vCPU; `close` frees everything that it opened.

    Attributes:
        vm, vcpu: the KVM objects.
        ram: the mapping of the RAM.
        windows: the GVA ranges that the guest's page tables map; append before `load`.
        mmio, ports: the buses of the emulated devices.
        faults: the accesses that KVM failed to resolve, and the `policy` that handles them.
        handlers: the handler of each exit type; change before `run`.
    """

    def __init__(
        self,
        system: System,
        *,
        ram_size: int = MINIMUM_RAM,
        console: BinaryIO | None = None,
        enable: Iterable[int] = (),
        vm_type: int | None = None,
    ) -> None:
        """Create the VM with `ram_size` bytes of RAM; `console` is stdout by default.

        `enable` lists capabilities to enable before the vCPU exists. `vm_type` is that of
        `System.create_vm`.

        Raises `IoctlError`, or `LackingError` on an architecture that pyvmm does not support.
        """
        self.arch = native()
        self._system = system
        self._translation: PageTables | None = None
        with ExitStack() as stack:
            self.vm = stack.enter_context(system.create_vm(vm_type))
            enable_fault_reporting(self.vm)
            for capability in enable:
                self.vm.enable(capability)
            self.ram = stack.enter_context(Mapping.anonymous(ram_size, align=2 << 20))
            self.vm.memslots.add(RAM_BASE, self.ram)
            self.vcpu = self.vm.create_vcpu()
            self._owned = stack.pop_all()
        self.mmio, self.ports = Bus(), Bus()
        self.windows: list[Window] = [identity(RAM_BASE, ram_size, executable=True)]
        self.faults = Faults()
        context = VcpuContext(self.vm, self.vcpu, self.arch, self.mmio)
        handler = FaultHandler(context, self.faults)
        self.handlers: Handlers = {
            **handler.handlers(),
            Mmio: handler.unless(mmio_handler(self.vcpu, self.mmio)),
            Io: port_handler(self.vcpu, self.ports),
        }
        self._attach(Console(console or sys.stdout.buffer))

    def _attach(self, console: Console) -> None:
        if self.arch.CONSOLE_IS_PORT:
            self.ports.attach(self.arch.CONSOLE, Console.PORTS, console)
        else:
            self.mmio.attach(self.arch.CONSOLE, Console.SIZE, console)
            self.windows.append(identity(self.arch.CONSOLE, Console.SIZE, MemoryType.DEVICE))

    @cached_property
    def vfio_files(self) -> VfioFiles:
        """Return the VM's kvm-vfio device, created on first use."""
        return VfioFiles(self.vm)

    def load(self, payload: Payload) -> None:
        """Write `payload` and the page tables for `windows` to RAM.

        Raises `UsageError` if they do not fit.
        """
        self.write(ENTRY, payload.code)
        self._translation = self.arch.build_page_tables(RAM_BASE, self.windows)
        self.write(self._translation.gpa, self._translation.image)

    def enter(self, block: bytes = b"") -> None:
        """Set the vCPU to the entry of the loaded payload, and write `block` as argument block.

        The vCPU is initialized again: on arm64, a powered-off guest does not run otherwise
        (kvm_prepare_system_event in arch/arm64/kvm/psci.c).
        """
        self.write(ARGUMENT_BLOCK, block)
        self.vcpu.complete_exit()
        self.arch.prepare(self._system, self.vm, self.vcpu)
        self.arch.enter(self.vcpu, ENTRY, (self.arch.CONSOLE, ARGUMENT_BLOCK), self._translation)

    def run(self) -> RunOutcome:
        """Run the vCPU until an exit that no handler resolves."""
        with poison.reporting(self.vcpu):
            return run(self.vcpu, self.handlers)

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` to RAM at `gpa`. Raises `UsageError` if it does not fit."""
        try:
            self.ram.write(gpa - RAM_BASE, data)
        except ValueError:
            raise UsageError(
                f"{len(data):#x} bytes at GPA {gpa:#x} do not fit into "
                f"{self.ram.size:#x} bytes of RAM"
            ) from None

    def read(self, gpa: int, size: int) -> bytes:
        """Return a copy of `size` bytes of RAM at `gpa`."""
        return self.ram.read(gpa - RAM_BASE, size)

    def close(self) -> None:
        """Close the VM and unmap its RAM."""
        self._owned.close()
