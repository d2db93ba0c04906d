# SPDX-License-Identifier: GPL-2.0-only
"""2023-12-06: one BAR, two memory types, chosen by the guest at run time.

A driver asks the device's firmware for pages of write-combining buffers and for pages of
registers, all in one BAR and on demand. The VMM cannot map each part of the BAR with the right
type: only the guest knows it, and may change it later. Stage 2 allows what is safe for the device,
and the guest's stage 1 chooses from that.

Look for: two pages of the BAR swap their types, and nothing happens on the host's side: no exit,
the same memslot, the same stage-2 type. The unaligned reads show that the guest got the type that
it chose: Normal memory allows them, Device memory never does.

python -m pyvmm lab shell --kernel lab --device bochs -- \\
    python3 examples/thread_2023_12_06_vmm_cannot_know.py
"""

import sys

from pyvmm.arch.page_tables import MemoryType
from pyvmm.errors import as_command
from pyvmm.guest import probe
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Probe
from pyvmm.kvm import System
from pyvmm.lab.stage2_client import describe_stage2
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.machine.spinning_guest import spinning_guest
from pyvmm.memory import PAGE_SIZE
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.probe_bars import ALIASES, windows

UNALIGNED = 1  # byte of the page
CHOICES = [
    (MemoryType.NON_CACHEABLE, MemoryType.DEVICE),
    (MemoryType.DEVICE, MemoryType.NON_CACHEABLE),
]


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    with (
        System.open() as system,
        Machine(system) as machine,
        AssignedDevice(machine, bdf) as device,
    ):
        bar = device.bars[0]
        slots = tuple(machine.vm.memslots)
        # The guest's page tables map the BAR once with each type.
        machine.windows += windows(device.bars, writable=False)
        for choice in CHOICES:
            machine.load(Payload.builtin("probe", machine.arch.NAME))
            for page, kind in enumerate(choice):
                offset = page * PAGE_SIZE
                access = Probe(ALIASES[kind] + bar.gpa + offset + UNALIGNED, 4)
                block = probe.pack([access])
                machine.enter(block)
                outcome = machine.run()
                [answer] = probe.unpack([access], machine.read(ARGUMENT_BLOCK, len(block)))
                exits = sum(outcome.exits.values()) - 1  # the last one ends the payload
                chosen = machine.arch.MEMORY_TYPES[kind]
                print(
                    f"{bar.region.name}+{offset:#06x}: the guest chooses {chosen:<12} an unaligned "
                    f"read is {answer.outcome.name:<6} exits {exits}"
                )
            for page, kind in enumerate(choice):
                gpa = bar.gpa + page * PAGE_SIZE
                with spinning_guest(machine, ALIASES[kind] + gpa):
                    stage2 = describe_stage2(gpa)
                print(f"{bar.region.name}+{page * PAGE_SIZE:#06x}: stage 2 is {stage2}")
        same = tuple(machine.vm.memslots) == slots
        print(f"the host's memslots are {'unchanged' if same else 'CHANGED'}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
