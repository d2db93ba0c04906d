# SPDX-License-Identifier: GPL-2.0-only
"""2023-12-05: does a Normal-NC write arrive before the reset? Why this began with PCIe alone.

With stage 2 Normal-NC a guest may leave writes in a CPU's buffers, and the host may then reset the
device. Unmapping (TLBI, DSB) ends what the CPU has under way, but whether the device has seen it
"you can't know architecturally". PCIe says more than other buses: a read does not overtake the
writes before it, so a read from the device before the reset brings them there. Devices on other
buses have no such rule that Linux knows, and stay Device in stage 2.

What to look for: the BAR is Normal-NC, then gone from stage 2 with the reset (vfio takes the
mapping away before it resets, while the guest goes on elsewhere), and back with the next access.
The real-time clock, which is on no PCI bus, is Device. An emulated CPU does not reorder: this
shows the steps that the order rests on, not what goes wrong without them.

python -m pyvmm lab shell --kernel lab --device bochs -- \\
    python3 examples/thread_2023_12_05_reads_before_a_reset.py
"""

import os
import sys
from pathlib import Path

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.caps import negotiate
from pyvmm.errors import LackingError, as_command
from pyvmm.guest import probe
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe
from pyvmm.kvm import System
from pyvmm.lab.stage2_client import describe_stage2
from pyvmm.machine import ENTRY, Machine
from pyvmm.machine.spinning_guest import spinning_guest
from pyvmm.memory import PAGE_SIZE, PROT_READ, Mapping
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.probe_bars import ALIASES, windows

WORD, OFFSET = 0xFEEDFACE, 0x40
RTC_GPA = 1 << 36


def rtc() -> Mapping:
    """The registers of a PL031, Arm's real-time clock, which boards have on no bus."""
    found = next(Path("/sys/bus/amba/devices").glob("*.pl031"), None)
    if found is None:
        raise LackingError("this machine has no PL031: run it in the lab")
    address = int((found / "resource").read_text().split()[0], 16)
    memory = os.open("/dev/mem", os.O_RDWR | os.O_SYNC)
    try:
        return Mapping.of_file(memory, PAGE_SIZE, offset=address, prot=PROT_READ)
    finally:
        os.close(memory)


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    with (
        System.open() as system,
        Machine(system) as machine,
        AssignedDevice(machine, negotiate(system), bdf) as device,
        rtc() as clock,
    ):
        bar = device.bars[0]
        machine.vm.memslots.add(RTC_GPA, clock, readonly=True)
        machine.windows += windows(device.bars, writable=True)
        machine.windows.append(identity(RTC_GPA, PAGE_SIZE, MemoryType.DEVICE, writable=False))
        before = bar.region.read(OFFSET, 4)

        combining = ALIASES[MemoryType.NON_CACHEABLE] + bar.gpa + OFFSET
        machine.load(Payload.builtin("probe", machine.arch.NAME))
        machine.enter(probe.pack([Probe(combining, 4, Op.WRITE, WORD)]))
        machine.run()
        print(f"1. the guest has written {WORD:#x} through its write-combining mapping")
        with spinning_guest(machine, combining):
            print(f"   stage 2 of the BAR: {describe_stage2(bar.gpa)}")

        with spinning_guest(machine, ENTRY):  # the guest runs, and leaves the BAR alone
            word = bar.mapping.load(OFFSET, 4)
            print(f"2. the VMM reads the device: {word:#x}, so what was written before is there")
            device.device.reset()
            print("3. the VMM resets the device")
            print(f"   stage 2 of the BAR: {describe_stage2(bar.gpa)}")
        with spinning_guest(machine, combining):
            print("4. the guest reads the BAR again")
            print(f"   stage 2 of the BAR: {describe_stage2(bar.gpa)}")

        with spinning_guest(machine, RTC_GPA):
            print("5. no PCI device: the guest reads the host's real-time clock")
            print(f"   stage 2 of the RTC: {describe_stage2(RTC_GPA)}")
        bar.region.write(OFFSET, before)


if __name__ == "__main__":
    main(*sys.argv[1:2])
