# SPDX-License-Identifier: GPL-2.0-only
"""Register a BAR as a memslot by hand: open the device, mmap the BAR, let a guest read it.

python examples/bar_memslot.py 0000:01:00.0     (a device that is bound to vfio)
python -m pyvmm lab shell --device bochs -- python3 examples/bar_memslot.py
"""

import sys

from pyvmm.arch.native import native
from pyvmm.arch.page_tables import MemoryType, Window, identity
from pyvmm.errors import as_command
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.kvm.memslots import MemslotError
from pyvmm.memory import Mapping
from pyvmm.vfio.bars import map_bar
from pyvmm.vfio.iommu_modes import open_device

RAM, BAR = 0x4000_0000, 1 << 32  # GPAs
CODE, BLOCK = RAM + 0x20_0000, RAM + 0x10_0000
LOADS = 100_000


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    arch = native()
    with open_device(bdf) as device, System.open() as system, system.create_vm() as vm:
        device.config.enable_memory()
        region = device.regions["BAR0"]
        with map_bar(region, device.split(region)) as bar, Mapping.anonymous(4 << 20) as ram:
            vm.memslots.add(RAM, ram)
            try:
                slot = vm.memslots.add(BAR, bar.memory)
            except MemslotError as error:
                sys.exit(f"KVM rejected the BAR ({error.cause}): {error.why}")
            print(f"BAR0, {slot.size:#x} bytes at HVA {slot.hva:#x}, is slot {slot.number}")

            vcpu = vm.create_vcpu()
            arch.prepare(system, vm, vcpu)
            tables = arch.build_page_tables(
                RAM,
                [
                    identity(RAM, ram.size, executable=True),
                    Window(BAR, BAR, slot.size, MemoryType.DEVICE, writable=False),
                ],
            )
            ram.write(0, tables.image)
            ram.write(CODE - RAM, Payload.builtin("loads", arch.NAME).code)
            ram.write(BLOCK - RAM, repeat.pack(LOADS, BAR))
            arch.enter(vcpu, CODE, (arch.CONSOLE, BLOCK), tables)
            ending = vcpu.run()
            word = repeat.last_word(ram.read(BLOCK - RAM, 24))
            print(f"{LOADS} guest loads, the last read {word:#010x}; the only exit: {ending}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
