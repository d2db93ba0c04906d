# SPDX-License-Identifier: GPL-2.0-only
"""Reasons: which of KVM's conditions made an ioctl fail, judged on facts.

The same conditions serve a VM of this process (`pyvmm.kvm.memslots`, `pyvmm.faults`), a traced one
(`pyvmm.trace`) and one that a person describes (`pyvmm.explain`). Each fills in the facts it has;
a condition that needs an absent fact is undecided.

::

    slot             a memslot, its guest_memfd, and an absent fact
    vm_state         the state of a VM and of a vCPU
    facts            facts of a rejected memslot, and of an access that KVM did not resolve
    condition        a condition, and the judge
    registration     the conditions of KVM_SET_USER_MEMORY_REGION and KVM_SET_USER_MEMORY_REGION2
    kvm_run          the conditions of KVM_RUN
    vcpu_conditions  those on the state of the vCPU and of its descriptor
    host_fault       those on a page that the host does not fault in
    pfnmap           those on memory that is mapped by page frame number
    protected        those on memory in KVM's protected mode (pKVM)
    stage2_type      the stage-2 memory type of a VMA

To add a condition, write one record in `registration` or `kvm_run`, or in one of the modules whose
conditions `kvm_run` includes, at its place in the kernel's order; and one row in the test.
"""

from pyvmm.why.condition import (
    Broken,
    Condition,
    Evidence,
    Finding,
    Mark,
    Unseen,
    judge,
    most_likely,
    surest_first,
)
from pyvmm.why.facts import AccessFacts, Host, RegistrationFacts
from pyvmm.why.slot import Absent, Memfd, Slot
from pyvmm.why.vm_state import VcpuState, Vgic, VmState

__all__ = [
    "Absent",
    "AccessFacts",
    "Broken",
    "Condition",
    "Evidence",
    "Finding",
    "Host",
    "Mark",
    "Memfd",
    "RegistrationFacts",
    "Slot",
    "Unseen",
    "VcpuState",
    "Vgic",
    "VmState",
    "judge",
    "most_likely",
    "surest_first",
]
