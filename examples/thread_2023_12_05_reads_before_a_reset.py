# SPDX-License-Identifier: GPL-2.0-only
"""2023-12-05: Normal-NC writes and device reset, and why Normal-NC is for PCIe only.

With stage 2 Normal-NC, a guest's writes may still be in a CPU's buffers when the host resets the
device. Unmapping (TLBI, DSB) completes them on the CPU's side, but whether the device has received
them "you can't know architecturally". PCIe has a stronger rule than other buses: a read does not
pass earlier posted writes, so a read from the device before the reset flushes them. Linux knows of
no such rule for devices on other buses, and they stay Device in stage 2.

Look for: the BAR is Normal-NC; the reset removes it from stage 2 (vfio zaps the mapping before it
resets the device, while the guest runs elsewhere); the next access maps it again. The real-time
clock, which is not on a PCI bus, is Device. An emulated CPU does not reorder, so this shows the
steps that the ordering depends on, not the failure without them.

python -m pyvmm lab shell --kernel lab --device bochs -- \\
    python3 examples/thread_2023_12_05_reads_before_a_reset.py
"""

import os
import sys
from pathlib import Path

from pyvmm.arch.page_tables import MemoryType, identity
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
    """Map the registers of a PL031, Arm's real-time clock: a platform device, not PCI."""
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
        AssignedDevice(machine, bdf) as device,
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
        print(f"1. the guest wrote {WORD:#x} through its write-combining mapping")
        with spinning_guest(machine, combining):
            print(f"   stage 2 of the BAR: {describe_stage2(bar.gpa)}")

        with spinning_guest(machine, ENTRY):  # the guest runs without accessing the BAR
            word = bar.mapping.load(OFFSET, 4)
            print(f"2. the VMM reads the device: {word:#x}, so earlier writes have arrived")
            device.device.reset()
            print("3. the VMM resets the device")
            print(f"   stage 2 of the BAR: {describe_stage2(bar.gpa)}")
        with spinning_guest(machine, combining):
            print("4. the guest reads the BAR again")
            print(f"   stage 2 of the BAR: {describe_stage2(bar.gpa)}")

        with spinning_guest(machine, RTC_GPA):
            print("5. not a PCI device: the guest reads the host's real-time clock")
            print(f"   stage 2 of the RTC: {describe_stage2(RTC_GPA)}")
        bar.region.write(OFFSET, before)


if __name__ == "__main__":
    main(*sys.argv[1:2])
