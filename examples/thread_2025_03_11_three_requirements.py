# SPDX-License-Identifier: GPL-2.0-only
"""2025-03-11: what KVM has to do before a guest gets cacheable device memory, one after the other.

Without FWB, KVM would have to clean caches through a mapping of its own, which PFNMAP memory has
not got: so such a memslot works on one machine and not on the other. Three things were asked for:
tell user space whether it is supported; handle the fault only where user space has bought in;
report the fault to user space otherwise, so that it can fix things.

What to look for: run it twice, with `--cpu max` (FWB and DIC) and with `--cpu neoverse-n1`
(neither). On the first, BAR4 is Normal-WB in stage 2, though mapped behind KVM's back. On the
second, registering it is refused, with a reason (1 and 2). Mapped behind KVM's back it is a bare
EFAULT, and pyvmm does what the third asks for: it finds out what was accessed and why it failed,
mends it, and lets the kernel replay.

python -m pyvmm lab shell --kernel lab --device grace --cpu neoverse-n1 -- \\
    python3 examples/thread_2025_03_11_three_requirements.py
"""

import sys

from pyvmm.arch.page_tables import MemoryType
from pyvmm.caps import Report, negotiate
from pyvmm.errors import as_command
from pyvmm.faults import Fix
from pyvmm.faults.policy import always
from pyvmm.kvm import System
from pyvmm.lab.stage2_client import describe_stage2
from pyvmm.machine import Machine
from pyvmm.machine.spinning_guest import spinning_guest
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.probe_bars import ALIASES, windows

CAPABILITY = "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED"
USEMEM = "BAR4"
VIEW = ALIASES[MemoryType.WRITE_BACK]


def registered(system: System, caps: Report, bdf: str) -> None:
    """A well-behaved VMM: it maps each BAR, registers it, and hears what KVM thinks of it."""
    with Machine(system) as machine, AssignedDevice(machine, caps, bdf) as device:
        machine.windows += windows(device.bars, writable=False)
        for bar in device.bars:
            for slot in bar.slots:
                print(f"   {bar.region.name} {slot.outcome}: {slot.why}")
                if slot.outcome == "registered":
                    with spinning_guest(machine, VIEW + bar.gpa):
                        print(f"   {bar.region.name} stage 2: {describe_stage2(bar.gpa)}")


def flipped(system: System, caps: Report, bdf: str, fix: Fix) -> None:
    """Register anonymous memory, mmap BAR4 over it behind KVM's back, let the guest touch it."""
    with (
        Machine(system) as machine,
        AssignedDevice(machine, caps, bdf, flip={USEMEM}) as device,
    ):
        machine.faults.policy = always(fix)
        machine.windows += windows(device.bars, writable=False)
        [gpa] = (bar.gpa for bar in device.bars if bar.region.name == USEMEM)
        with spinning_guest(machine, VIEW + gpa):
            told = describe_stage2(gpa)
        for record in machine.faults.records:
            report = record.fault.report
            print(f"   {report.errno}, told by {report.source}: {report.access} at GPA {gpa:#x}")
            print(f"   cause: {record.fault.cause}")
            print(f"   {record.fix}, {record.outcome}: {record.how}")
        if not machine.faults.records:
            print("   no fault")
        print(f"   {USEMEM} stage 2: {told}")


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    with System.open() as system:
        caps = negotiate(system)
        supported = caps.verdict("cacheable-pfnmap")
        print(f"1. tell: {CAPABILITY} is {caps.capability(CAPABILITY).value}: {supported.why}")
        print("2. only where user space has bought in: registering the BARs as they are")
        registered(system, caps, bdf)
        for fix in (Fix.REPLAY, Fix.EMULATE):
            print(f"3. report it otherwise: {USEMEM} comes behind KVM's back, the policy is {fix}")
            flipped(system, caps, bdf, fix)


if __name__ == "__main__":
    main(*sys.argv[1:2])
