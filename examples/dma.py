# SPDX-License-Identifier: GPL-2.0-only
"""Transfer guest RAM to a device and back by DMA, through the IOMMU (the SMMU on arm64).

QEMU's edu device has 4 KiB of memory and a DMA engine. It fetches one page of guest RAM and
stores it to another, which the guest then reads. At the end it writes to an IOVA that was never
mapped, and the IOMMU blocks it.

    python -m pyvmm lab shell --device edu -- python3 examples/dma.py
"""

import sys
import time

from pyvmm.errors import UsageError, as_command
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.machine import ARGUMENT_BLOCK, ENTRY, RAM_BASE, Machine
from pyvmm.memory import PAGE_SIZE
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.vfio.vfio_device import VfioDevice

EDU = (0x1234, 0x11E8)  # vendor, device

# The device's registers, in BAR0 (QEMU's docs/specs/edu.rst).
SOURCE, TARGET, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
BUSY, TO_RAM = 1 << 0, 1 << 1
OWN_MEMORY = 0x40000

# The GPA of two pages of guest RAM, and the IOVA of the first: edu has 28-bit addresses.
PAGES = ENTRY + 0x10_0000
IOVA, NEVER_MAPPED = 0x10_0000, 0x400_0000


def dma(device: VfioDevice, source: int, target: int, command: int) -> None:
    """Let the device copy a page and wait until it is done."""
    bar = device.regions["BAR0"]
    for register, value in ((SOURCE, source), (TARGET, target), (COUNT, PAGE_SIZE)):
        bar.write(register, value.to_bytes(8, "little"))
    bar.write(COMMAND, (command | BUSY).to_bytes(8, "little"))
    while int.from_bytes(bar.read(COMMAND, 8), "little") & BUSY:
        time.sleep(0.001)


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    function = PciFunction.find(bdf)
    if (function.vendor, function.device) != EDU:
        raise UsageError(f"{bdf} is not QEMU's edu device: run it in the lab with --device edu")
    with open_device(bdf) as device, System.open() as system, Machine(system) as machine:
        device.dma.map(IOVA, machine.ram, at=PAGES - RAM_BASE, size=2 * PAGE_SIZE)
        device.config.enable_bus_master()
        print(f"{device.dma.mode}: GPA {PAGES:#x} is IOVA {IOVA:#x} for {device.function}")

        machine.write(PAGES, b"\xad\xde\xed\xfe" * (PAGE_SIZE // 4))
        dma(device, IOVA, OWN_MEMORY, 0)
        dma(device, OWN_MEMORY, IOVA + PAGE_SIZE, TO_RAM)

        machine.load(Payload.builtin("loads", machine.arch.NAME))
        machine.enter(repeat.pack(1, PAGES + PAGE_SIZE))
        outcome = machine.run()
        word = repeat.last_word(machine.read(ARGUMENT_BLOCK, 24))
        print(f"the guest reads {word:#x} where the device wrote ({outcome.last_exit})")

        before = machine.read(PAGES, PAGE_SIZE)
        dma(device, OWN_MEMORY, NEVER_MAPPED, TO_RAM)
        state = "unchanged" if machine.read(PAGES, PAGE_SIZE) == before else "CHANGED"
        print(f"DMA to IOVA {NEVER_MAPPED:#x}, never mapped: guest RAM is {state}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
