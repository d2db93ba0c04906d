# SPDX-License-Identifier: GPL-2.0-only
"""What could have made ``KVM_RUN`` fail.

The conditions are those of kvm_vcpu_ioctl in virt/kvm/kvm_main.c and, on arm64, of
kvm_arch_vcpu_ioctl_run in arch/arm64/kvm/arm.c, kvm_handle_guest_abort and user_mem_abort in
mmu.c, and io_mem_abort in mmio.c.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from pyvmm.errno_names import EHWPOISON
from pyvmm.explain.backing import Piece
from pyvmm.explain.finding import Finding, in_order
from pyvmm.explain.host import Host
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.uapi.kvm import KVM_CAP_ARM_NISV_TO_USER, KVM_CAP_GUEST_MEMFD


@dataclass(frozen=True)
class _Condition:
    """`arm64`: does it concern that architecture alone?"""

    name: str
    errno: int
    why: str
    arm64: bool = False


# Of memory: what `pyvmm.explain.backing` finds of the VMAs decides, where they are given.
_OF_MEMORY = (
    _Condition("hva-unmapped", errno.EFAULT, "nothing is mapped behind the memslot"),
    _Condition("hva-no-access", errno.EFAULT, "the VMM may not read what is behind the memslot"),
    _Condition("hva-read-only", errno.EFAULT, "a write, and the VMM may not write there"),
    _Condition(
        CACHEABLE_PFNMAP,
        errno.EFAULT,
        "device memory (PFNMAP) that is mapped cacheable came there after the memslot",
        arm64=True,
    ),
    _Condition(
        "exec-from-device",
        errno.ENOEXEC,
        "the guest fetched an instruction from device memory (PFNMAP)",
        arm64=True,
    ),
)
_OF_ELSE = (
    _Condition("file-truncated", errno.EFAULT, "the file behind the memslot was made shorter"),
    _Condition(
        "device-memory-off",
        errno.EFAULT,
        "the vfio device behind the memslot is gone, in reset, or has its memory space disabled",
    ),
    _Condition(
        "guest-memfd-closed",
        errno.EFAULT,
        "the guest_memfd behind the memslot was closed; KVM_EXIT_MEMORY_FAULT tells the address",
    ),
    _Condition(
        "device-unaligned",
        errno.EFAULT,
        "an unaligned access to what is Normal for the guest's stage 1 and Device in stage 2, as "
        "device memory (PFNMAP) is that vfio has not mapped: KVM does not handle that abort, and "
        "the kernel's log says 'Unsupported FSC'",
        arm64=True,
    ),
    _Condition("hardware-poison", EHWPOISON, "the hardware has given up on the memory"),
    _Condition(
        "mmio-no-syndrome",
        errno.ENOSYS,
        "an MMIO access whose syndrome KVM cannot use (ESR_EL2.ISV is 0): KVM_CAP_ARM_NISV_TO_USER "
        "makes an exit of it",
        arm64=True,
    ),
    _Condition(
        "vcpu-not-initialised",
        errno.ENOEXEC,
        "the vCPU has had no KVM_ARM_VCPU_INIT",
        arm64=True,
    ),
    _Condition(
        "vcpu-not-finalised",
        errno.EPERM,
        "the vCPU has SVE, and no KVM_ARM_VCPU_FINALIZE",
        arm64=True,
    ),
    _Condition("signal", errno.EINTR, "a signal came, or kvm_run.immediate_exit was set"),
    _Condition(
        "another-process",
        errno.EIO,
        "the caller has another address space than the one that created the VM, or the VM is dead",
    ),
    _Condition("not-a-vcpu", errno.ENOTTY, "the file descriptor is no vCPU"),
    _Condition("bad-descriptor", errno.EBADF, "the file descriptor is closed"),
)


def could_be(
    host: Host, number: int, backing: Sequence[Piece] | None = None, gpa: int | None = None
) -> list[Finding]:
    """Every condition that gives errno `number`, the surest first.

    `backing` is what lies behind every memslot now, where that is known, and `gpa` what the guest
    accessed. What was put right since is not to be seen.
    """
    touched = backing
    if backing is not None and gpa is not None:
        touched = [p for p in backing if p.gpa is not None and p.gpa <= gpa < p.gpa + p.size]
    found = [
        _of_memory(host, each, touched, gpa) for each in _OF_MEMORY if each.errno == number
    ] + [_of_else(host, each) for each in _OF_ELSE if each.errno == number]
    return in_order(found)


def _of_memory(
    host: Host, condition: _Condition, touched: Sequence[Piece] | None, gpa: int | None
) -> Finding:
    name = condition.name
    if condition.arm64 and not host.on_arm64:
        return Finding(name, "impossible", "only arm64's KVM fails so")
    if name == CACHEABLE_PFNMAP and host.why_no_cacheable_pfnmap() is None:
        return Finding(name, "impossible", "this CPU has FWB and DIC: KVM maps it as it is")
    if touched is None:
        return Finding(name, "inferred", f"{condition.why}: not looked at, without its memslots")
    hits = [(p, f) for p in touched for f in p.findings if f.name == name]
    if not hits:
        where = "any memslot" if gpa is None else f"GPA {gpa:#x}"
        return Finding(name, "impossible", f"nothing of that kind is behind {where} now")
    piece, finding = hits[0]
    where = f"slot {piece.slot}, GPA {piece.gpa:#x}, HVA {piece.hva:#x}: {finding.why}"
    if len(hits) > 1:
        where += f" (and {len(hits) - 1} more such places)"
    # What is there is one thing; that the guest went there, and how, another.
    any_access = name in ("hva-unmapped", "hva-no-access")
    return Finding(name, "known" if gpa is not None and any_access else "inferred", where)


def _of_else(host: Host, condition: _Condition) -> Finding:
    if condition.arm64 and not host.on_arm64:
        return Finding(condition.name, "impossible", "only arm64's KVM fails so")
    if condition.name == "guest-memfd-closed" and not host.check(KVM_CAP_GUEST_MEMFD):
        return Finding(condition.name, "impossible", "this kernel has no guest_memfd for a VM")
    why = condition.why
    if condition.name == "mmio-no-syndrome" and not host.check(KVM_CAP_ARM_NISV_TO_USER):
        why += ", which this kernel does not offer"
    return Finding(condition.name, "inferred", why)
