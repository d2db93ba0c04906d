# SPDX-License-Identifier: GPL-2.0-only
"""2024-02: the guest chooses Device or Normal-NC for I/O memory, within what stage 2 allows.

Where stage 2 is Device or Normal-NC, the result is the stricter of stage 1 and stage 2. A Normal-WB
stage 2 is combined like that only without FWB: with FWB, KVM's MT_S2_FWB_NORMAL overrides stage 1,
and the result is Normal-WB even if the guest says Device.

A driver that uses writel() wants Device. One that copies with write-combining stores wants
Normal-NC, and its copies (memcpy_toio, or a memcpy that the compiler inlines) may be unaligned,
which Device memory does not allow. Stage 2 Normal-NC serves both, because the guest's driver
chooses in stage 1.

Look for: with stage 2 Normal-NC (vfio-pci), an unaligned store succeeds unless stage 1 is Device;
then the guest takes the alignment fault itself. With stage 2 Device (the same BAR through sysfs),
the guest's Normal-NC is overridden: the store faults in stage 2, and KVM_RUN fails with EFAULT.

python -m pyvmm lab shell --kernel lab --device bochs -- \\
    python3 examples/thread_2024_02_writel_and_wc_copies.py
"""

import sys
from pathlib import Path

from pyvmm.arch.page_tables import MemoryType, Window
from pyvmm.errors import as_command
from pyvmm.faults import Fix
from pyvmm.faults.policy import always
from pyvmm.guest import probe
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe, ProbeOutcome
from pyvmm.kvm import System
from pyvmm.lab.stage2_client import describe_stage2
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.machine.spinning_guest import spinning_guest
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.probe_bars import ALIASES

SYSFS_BAR = 1 << 36  # GPA of the same BAR's first page, mapped through sysfs
STORES = {"writel": (0x80, 4), "unaligned copy": (0x91, 8)}  # offset in the page, width


def through_sysfs(bdf: str) -> Mapping:
    with Path(f"/sys/bus/pci/devices/{bdf}/resource0").open("r+b", buffering=0) as bar:
        return Mapping.of_file(bar.fileno(), PAGE_SIZE)


def store(machine: Machine, gva: int, width: int) -> str:
    """Let the guest store zeroes and return the result as text."""
    access = Probe(gva, width, Op.WRITE)
    block = probe.pack([access])
    machine.enter(block)
    outcome = machine.run()
    [answer] = probe.unpack([access], machine.read(ARGUMENT_BLOCK, len(block)))
    if answer.outcome is ProbeOutcome.NOT_RUN:
        return str(outcome.last_exit)
    if answer.outcome is ProbeOutcome.ABORT:
        return f"a fault in the guest (ESR_EL1 {answer.syndrome:#x})"
    return "ok"


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    with (
        System.open() as system,
        Machine(system) as machine,
        AssignedDevice(machine, bdf) as device,
        through_sysfs(bdf) as again,
    ):
        machine.faults.policy = always(Fix.STOP)
        bar = device.bars[0]
        machine.vm.memslots.add(SYSFS_BAR, again)
        gpas = {"vfio-pci": bar.gpa, "sysfs": SYSFS_BAR}
        for gpa in gpas.values():
            for kind, base in ALIASES.items():
                machine.windows.append(Window(base + gpa, gpa, PAGE_SIZE, kind))
        page = bar.region.read(0, PAGE_SIZE)
        for name, gpa in gpas.items():
            with spinning_guest(machine, ALIASES[MemoryType.DEVICE] + gpa):
                print(f"the BAR through {name}: stage 2 is {describe_stage2(gpa)}")
            machine.load(Payload.builtin("probe", machine.arch.NAME))
            for kind, base in ALIASES.items():
                for what, (offset, width) in STORES.items():
                    result = store(machine, base + gpa + offset, width)
                    print(f"  stage 1 {machine.arch.MEMORY_TYPES[kind]:<12} {what:<14} {result}")
        bar.region.write(0, page)


if __name__ == "__main__":
    main(*sys.argv[1:2])
