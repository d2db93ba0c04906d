# SPDX-License-Identifier: GPL-2.0-only
"""Create a VM from scratch: memory, a vCPU, a guest, and the loop that handles its exits."""

from pyvmm.arch.native import native
from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.errors import as_command
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.kvm.exits import Halt, Io, Mmio, SystemEvent
from pyvmm.memory import Mapping

RAM, CODE = 0x4000_0000, 0x4010_0000  # guest physical addresses

with as_command(), System.open() as kvm, kvm.create_vm() as vm, Mapping.anonymous(2 << 20) as ram:
    arch = native()
    vm.memslots.add(RAM, ram)  # this process's memory is at GPA RAM now
    ram.write(CODE - RAM, Payload.builtin("hello", arch.NAME).code)
    windows = [identity(RAM, ram.size, executable=True)]
    if not arch.CONSOLE_IS_PORT:
        windows.append(identity(arch.CONSOLE, 0x1000, MemoryType.DEVICE))
    translation = arch.build_page_tables(RAM, windows)  # the guest's own page tables
    ram.write(0, translation.image)

    vcpu = vm.create_vcpu()
    arch.prepare(kvm, vm, vcpu)
    arch.enter(vcpu, CODE, [arch.CONSOLE], translation)
    for exit in vcpu.exits():
        match exit:
            case Io(port=arch.CONSOLE, write=True, data=data):  # x86-64: a serial port
                print(data.decode(), end="")
            case Mmio(gpa=arch.CONSOLE, write=True, value=value):  # arm64: a UART
                print(chr(value), end="")
            case Halt() | SystemEvent():
                break
            case _:
                raise SystemExit(f"unexpected exit: {exit}")
