# SPDX-License-Identifier: GPL-2.0-only
"""Why something failed in a traced VM, by the same rules that explain pyvmm's own failures."""

import errno
from functools import cached_property

from pyvmm.errors import PyvmmError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import rejection
from pyvmm.kvm.system import System
from pyvmm.kvm.vm import Vm
from pyvmm.trace.values import Values
from pyvmm.trace.vms import TracedSlot, TracedSlots, TracedVm
from pyvmm.vma import Vma, vmas


class Asked:
    """A traced VM, as the rules ask about one; what it cannot tell, a VM of our own does.

    KVM answers a VM's ioctls to one process only. A capability's answer is the kernel's and the
    CPU's, so another VM's is as good.
    """

    def __init__(self, vm: TracedVm, own: Vm | None) -> None:
        self._own = own
        self.vm_type = vm.vm_type
        self.enabled = vm.enabled
        self.memslots: TracedSlots = vm.memslots

    def check(self, capability: int) -> int:
        """``KVM_CHECK_EXTENSION``; 0 where we may not have a VM of our own."""
        return self._own.check(capability) if self._own else 0


class Explainer:
    """Holds the VM that is asked about capabilities: made when it is first needed."""

    @cached_property
    def _vm(self) -> Vm | None:
        try:
            with System.open() as system:
                return system.create_vm()
        except (PyvmmError, IoctlError):
            return None

    def rejected(self, vm: TracedVm, slot: TracedSlot, errno: int) -> tuple[str, str]:
        """Why KVM rejected a memslot, as (cause, why)."""
        return rejection.explain(Asked(vm, self._vm), slot, errno, vm.pid)

    def failed_run(self, vm: TracedVm, number: int, exit: str, payload: Values) -> str:
        """Why ``KVM_RUN`` failed, as far as the memory behind the memslots tells; or "".

        `number` is the errno.
        """
        if exit == "memory_fault":
            gpa = payload["gpa"]
            hit = [s for s in vm.memslots if isinstance(gpa, int) and s.gpa <= gpa < s.end]
            if not hit:
                return "no memslot is there"
            return _missing(hit[0], vm.pid) or f"slot {hit[0].number} has memory behind it now"
        if exit == "run_failure" and number == errno.EFAULT:
            return _bare_fault(vm)
        return ""

    def close(self) -> None:
        """Close the VM, if there is one."""
        if "_vm" in self.__dict__ and self._vm:
            self._vm.close()


def _bare_fault(vm: TracedVm) -> str:
    """What could make ``KVM_RUN`` fail with EFAULT and no address, among a VM's memslots.

    The address is the vCPU's to tell, and only its own process may ask it: so each memslot is
    looked at, and those named whose memory a guest cannot have as it is now.
    """
    suspects = [
        f"slot {slot.number} (GPA {slot.gpa:#x}): {what}"
        for slot in vm.memslots
        if not slot.guest_memfd and (what := _missing(slot, vm.pid))
    ]
    if not suspects:
        return "the kernel gave no address, and every memslot has memory behind it"
    return f"the kernel gave no address; suspect {'; '.join(suspects)}"


def _missing(slot: TracedSlot, pid: int) -> str:
    """What is wrong with the memory behind a slot; "" where nothing is."""
    try:
        found = vmas(slot.hva, slot.size, pid)
    except OSError:
        return ""
    at = slot.hva
    for vma in found:
        if vma.start > at:
            return f"HVA {at:#x} is not mapped"
        if problem := _problem(vma, slot):
            return problem
        at = vma.end
    return f"HVA {at:#x} is not mapped" if at < slot.hva + slot.size else ""


def _problem(vma: Vma, slot: TracedSlot) -> str:
    where = f"HVA {vma.start:#x}" + (f" ({vma.path})" if vma.path else "")
    if vma.perms[0] != "r":
        return f"{where} may not be read ({vma.perms})"
    if vma.pfnmap:
        return f"{where} is device memory (PFNMAP), which may be cacheable"
    if vma.perms[1] != "w" and not slot.readonly:
        return f"{where} may not be written ({vma.perms}), and the slot is not read-only"
    return ""
