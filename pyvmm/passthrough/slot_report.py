# SPDX-License-Identifier: GPL-2.0-only
"""The memslots of a VM, each with the memory type that KVM gives it in stage 2."""

from dataclasses import dataclass

from pyvmm.kvm.vm import Vm
from pyvmm.memory.vma import vmas
from pyvmm.why import Mark
from pyvmm.why.stage2_type import stage2_type


@dataclass(frozen=True)
class SlotReport:
    """A memslot: `size` bytes at `gpa`.

    Attributes:
        stage2: the memory type in stage 2, in words, judged from the first VMA under the slot.
        mark: how sure that is.
    """

    slot: int
    gpa: int
    size: int
    stage2: str
    mark: Mark


def report_slots(vm: Vm) -> tuple[SlotReport, ...]:
    """Return the VM's memslots that have a VMA, by GPA."""
    areas = vmas(0, 1 << 64)
    reports = []
    for slot in vm.memslots:
        area = next((each for each in areas if each.start <= slot.hva < each.end), None)
        if area:
            finding = stage2_type(area, vm.host)
            reports.append(SlotReport(slot.number, slot.gpa, slot.size, finding.why, finding.mark))
    return tuple(reports)
