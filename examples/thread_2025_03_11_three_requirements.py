# SPDX-License-Identifier: GPL-2.0-only
"""2025-03-11: the three requirements for cacheable device memory in a guest.

Without FWB, KVM must clean caches through a kernel mapping, which PFNMAP memory does not have. So
such a memslot works on one machine and fails on another. Three things were asked for: tell user
space whether it is supported; handle the fault only if user space has opted in; otherwise report
the fault to user space, so that it can fix it.

Run it twice: with `--cpu max` (FWB and DIC) and with `--cpu neoverse-n1` (neither).

Look for: on the first, BAR4 is Normal-WB in stage 2, even if its VMA replaces registered memory.
On the second, KVM rejects the memslot, and pyvmm prints the reason (1 and 2). If the VMA replaces
registered memory there, the access is a bare EFAULT, and pyvmm does what the third requirement
asks for: it finds the access and the cause, fixes it, and lets the kernel replay the access.

python -m pyvmm lab shell --kernel lab --device grace --cpu neoverse-n1 -- \\
    python3 examples/thread_2025_03_11_three_requirements.py
"""

import sys

from pyvmm.arch.page_tables import MemoryType
from pyvmm.caps import negotiate
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
ALIAS = ALIASES[MemoryType.WRITE_BACK]


def register_bars(system: System, bdf: str) -> None:
    """Map and register each BAR, and print the outcome and the stage-2 memory type."""
    with Machine(system) as machine, AssignedDevice(machine, bdf) as device:
        machine.windows += windows(device.bars, writable=False)
        for bar in device.bars:
            for slot in bar.slots:
                print(f"   {bar.region.name} {slot.outcome}: {slot.why}")
                if slot.outcome == "registered":
                    with spinning_guest(machine, ALIAS + bar.gpa):
                        print(f"   {bar.region.name} stage 2: {describe_stage2(bar.gpa)}")


def replace_bar(system: System, bdf: str, fix: Fix) -> None:
    """Register anonymous memory, mmap BAR4 over it, and let the guest access it."""
    with (
        Machine(system) as machine,
        AssignedDevice(machine, bdf, flip={USEMEM}) as device,
    ):
        machine.faults.policy = always(fix)
        machine.windows += windows(device.bars, writable=False)
        [gpa] = (bar.gpa for bar in device.bars if bar.region.name == USEMEM)
        with spinning_guest(machine, ALIAS + gpa):
            stage2 = describe_stage2(gpa)
        for record in machine.faults.records:
            report = record.fault.report
            access = f"{report.access} at GPA {gpa:#x}"
            print(f"   {report.errno}, address from {report.source}: {access}")
            print(f"   cause: {record.fault.cause}")
            print(f"   {record.fix}, {record.outcome}: {record.how}")
        if not machine.faults.records:
            print("   no fault")
        print(f"   {USEMEM} stage 2: {stage2}")


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    with System.open() as system:
        caps = negotiate(system)
        supported = caps.verdict("cacheable-pfnmap")
        print(f"1. tell: {CAPABILITY} is {caps.capability(CAPABILITY).value}: {supported.why}")
        print("2. only if user space has opted in: register the BARs as they are")
        register_bars(system, bdf)
        for fix in (Fix.REPLAY, Fix.EMULATE):
            print(f"3. otherwise report it: {USEMEM} replaces registered memory, policy {fix}")
            replace_bar(system, bdf, fix)


if __name__ == "__main__":
    main(*sys.argv[1:2])
