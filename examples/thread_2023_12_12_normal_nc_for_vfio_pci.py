# SPDX-License-Identifier: GPL-2.0-only
"""2023-12-12: a vfio-pci BAR is Normal-NC in stage 2, any other PFNMAP memory is Device.

The patch under review lets KVM relax I/O memory from Device to Normal-NC if the VMA has a flag
that only vfio-pci sets (now VM_ALLOW_ANY_UNCACHED). Neither PFNMAP nor user space's own memory
type is enough. This example maps one BAR in three ways, each as a memslot, and anonymous memory
for comparison.

Look for: the first three lines are the same device memory, and only the VMA differs. The
write-combining sysfs file is still Device in stage 2, because KVM checks the flag. smaps has no
name for that flag and prints it as "??".

python -m pyvmm lab shell --kernel lab --device bochs -- \\
    python3 examples/thread_2023_12_12_normal_nc_for_vfio_pci.py
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.errors import as_command
from pyvmm.kvm import System
from pyvmm.lab.stage2_client import describe_stage2
from pyvmm.machine import Machine
from pyvmm.machine.spinning_guest import spinning_guest
from pyvmm.memory import PAGE_SIZE, PROT_READ, Mapping
from pyvmm.memory.vma import vmas
from pyvmm.passthrough import AssignedDevice

ELSEWHERE = 1 << 36  # GPA of the first other memslot, above the BARs


def others(bdf: str) -> Iterator[tuple[str, Mapping]]:
    """Yield mappings of the same BAR without vfio, and of anonymous memory."""
    for name in ("resource0", "resource0_wc"):
        with Path(f"/sys/bus/pci/devices/{bdf}/{name}").open("r+b", buffering=0) as bar:
            yield name, Mapping.of_file(bar.fileno(), PAGE_SIZE, prot=PROT_READ)
    yield "anonymous memory", Mapping.anonymous(PAGE_SIZE)


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    with (
        System.open() as system,
        Machine(system) as machine,
        AssignedDevice(machine, bdf) as device,
        ExitStack() as stack,
    ):
        bar = device.bars[0]
        places = [(f"vfio-pci {bar.region.name}", bar.gpa, bar.mapping.memory)]
        for number, (name, memory) in enumerate(others(bdf)):
            gpa = ELSEWHERE + number * PAGE_SIZE
            machine.vm.memslots.add(gpa, stack.enter_context(memory), readonly=True)
            places.append((name, gpa, memory))
        for _, gpa, _ in places:
            machine.windows.append(identity(gpa, PAGE_SIZE, MemoryType.DEVICE, writable=False))

        for name, gpa, memory in places:
            [vma] = vmas(memory.hva, PAGE_SIZE)
            flags = " ".join(sorted(vma.flags & {"pf", "io", "??"})) or "-"
            with spinning_guest(machine, gpa):
                print(f"{name:<18} VmFlags {flags:<9} stage 2: {describe_stage2(gpa)}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
