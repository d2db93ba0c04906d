# SPDX-License-Identifier: GPL-2.0-only
"""Memslots that KVM rejects. Each function lets `Memslots.add` raise `MemslotError`."""

import os
import sys
from pathlib import Path

from pyvmm.errors import SkippedError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.kvm.memslots import Memslot
from pyvmm.kvm.vm import Vm
from pyvmm.memory import PAGE_SIZE, PROT_READ, Mapping
from pyvmm.provoke.forked import in_child
from pyvmm.provoke.testbed import TARGET_GPA, TARGET_SIZE, Failure, Provocation, Testbed
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_ARM_MTE,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_GUEST_MEMFD_FLAGS,
    KVM_CAP_NR_MEMSLOTS,
    KVM_CAP_USER_MEMORY2,
    KVM_VM_TYPE_ARM_PROTECTED,
)

_UNKNOWN_FLAG = 1 << 31
_ADDRESS_SPACE = 7 << 16  # in the slot's number
_MAX_PAGES = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES, include/linux/kvm_host.h
_BITMAPS = _MAX_PAGES // 8 * 2  # bytes; kvm_alloc_dirty_bitmap allocates two


def _add(testbed: Testbed, gpa: int = TARGET_GPA, **options: int) -> Memslot:
    """Register anonymous memory with the options of `Memslots.add`."""
    memory = testbed.stack.enter_context(Mapping.anonymous(TARGET_SIZE))
    return testbed.machine.vm.memslots.add(gpa, memory, **options)  # type: ignore[arg-type]


def _exceed_slots(testbed: Testbed) -> None:
    _add(testbed, number=testbed.machine.vm.check(KVM_CAP_NR_MEMSLOTS))


def _add_to_another_address_space(testbed: Testbed) -> None:
    _add(testbed, number=_ADDRESS_SPACE)


def _set_unknown_flag(testbed: Testbed) -> None:
    _add(testbed, flags=_UNKNOWN_FLAG)


def _misalign_size(testbed: Testbed) -> None:
    _add(testbed, size=PAGE_SIZE + 1)


def _misalign_gpa(testbed: Testbed) -> None:
    _add(testbed, TARGET_GPA + 8)


def _misalign_hva(testbed: Testbed) -> None:
    _add(testbed, at=8, size=PAGE_SIZE)


def _tag_hva(testbed: Testbed) -> None:
    _add(testbed, at=1 << 60, size=PAGE_SIZE)


def _leave_user_space(testbed: Testbed) -> None:
    _add(testbed, size=1 << 60)


def _wrap_gpa(testbed: Testbed) -> None:
    _add(testbed, (1 << 64) - PAGE_SIZE)


def _exceed_pages(testbed: Testbed) -> None:
    testbed.machine.vm.memslots.add(0, None, size=(_MAX_PAGES + 1) * PAGE_SIZE)


def _delete_twice(testbed: Testbed) -> None:
    _add(testbed, size=0)


def _change_hva(testbed: Testbed) -> None:
    _add(testbed, number=_add(testbed).number)


def _resize(testbed: Testbed) -> None:
    slot = _add(testbed)
    testbed.machine.vm.memslots.add(slot.gpa, slot.memory, number=slot.number, size=PAGE_SIZE)


def _make_read_only(testbed: Testbed) -> None:
    slot = _add(testbed)
    testbed.machine.vm.memslots.add(slot.gpa, slot.memory, number=slot.number, readonly=True)


def _overlap(testbed: Testbed) -> None:
    _add(testbed)
    _add(testbed, TARGET_GPA + TARGET_SIZE - PAGE_SIZE)


def _end_beyond_guest_addresses(testbed: Testbed) -> None:
    if testbed.machine.arch.NAME == "arm64":
        raise SkippedError("needs an x86 host: arm64 rejects it as beyond the IPA size")
    _add(testbed, (1 << 52) - PAGE_SIZE)


def _end_beyond_ipa_size(testbed: Testbed) -> None:
    need_arm64(testbed)
    _add(testbed, 1 << 52)


def _register_in_child(testbed: Testbed) -> None:
    testbed.failure = in_child(lambda: Failure.of(lambda: _add(testbed)))


def _exhaust_memory(testbed: Testbed) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * PAGE_SIZE
    if total >= _BITMAPS:
        raise SkippedError(
            f"needs a host with less memory than the largest dirty bitmap, {_BITMAPS >> 20} MiB: "
            "in the lab, --memory 448M"
        )
    size = _MAX_PAGES * PAGE_SIZE
    testbed.machine.vm.memslots.add(TARGET_GPA, None, size=size, log_dirty=True)


def _log_protected_vm(testbed: Testbed) -> None:
    need_arm64(testbed)
    vm_type = testbed.machine.vm.vm_type | KVM_VM_TYPE_ARM_PROTECTED
    try:
        vm = testbed.stack.enter_context(testbed.system.create_vm(vm_type))
    except IoctlError:
        raise SkippedError(
            "this kernel has no protected VMs: in the lab, --mode protected"
        ) from None
    memory = testbed.stack.enter_context(Mapping.anonymous(TARGET_SIZE))
    vm.memslots.add(TARGET_GPA, memory, log_dirty=True)


def _memfd(
    testbed: Testbed, vm: Vm | None = None, flags: int = GUEST_MEMFD_FLAG_MMAP
) -> GuestMemfd:
    """Create a guest_memfd; without ``GUEST_MEMFD_FLAG_MMAP``, arm64 rejects the memslot."""
    vm = vm or testbed.machine.vm
    if not vm.offers(KVM_CAP_GUEST_MEMFD):
        raise SkippedError("this VM has no guest_memfd (KVM_CAP_GUEST_MEMFD is 0)")
    return vm.create_guest_memfd(TARGET_SIZE, flags & vm.offers(KVM_CAP_GUEST_MEMFD_FLAGS))


def _bind(testbed: Testbed, memfd: GuestMemfd, **options: int) -> Memslot:
    return testbed.machine.vm.memslots.add(
        TARGET_GPA,
        None,
        guest_memfd=memfd,
        **options,  # type: ignore[arg-type]
    )


def _bind_ordinary_memfd(testbed: Testbed) -> None:
    """Pass a memfd to ``KVM_SET_USER_MEMORY_REGION2``."""
    vm = testbed.machine.vm
    number = os.memfd_create("pyvmm-guest-memory")
    memfd = testbed.stack.enter_context(GuestMemfd(number, TARGET_SIZE, 0, vm))
    _bind(testbed, memfd)


def _bind_without_ioctl(testbed: Testbed) -> None:
    if testbed.machine.vm.offers(KVM_CAP_USER_MEMORY2):
        raise SkippedError(
            "this kernel has KVM_SET_USER_MEMORY_REGION2: in the lab, --kernel debian:6.1"
        )
    _bind_ordinary_memfd(testbed)


def _bind_without_support(testbed: Testbed) -> None:
    vm = testbed.machine.vm
    if vm.offers(KVM_CAP_GUEST_MEMFD):
        raise SkippedError("this VM has guest_memfd: in the lab, --kernel debian:6.12")
    if not vm.offers(KVM_CAP_USER_MEMORY2):
        raise SkippedError(
            "this kernel has no KVM_SET_USER_MEMORY_REGION2: in the lab, --kernel debian:6.12"
        )
    _bind_ordinary_memfd(testbed)


def _bind_read_only(testbed: Testbed) -> None:
    _bind(testbed, _memfd(testbed), readonly=True)


def _log_guest_memfd(testbed: Testbed) -> None:
    _bind(testbed, _memfd(testbed), log_dirty=True)


def _misalign_offset(testbed: Testbed) -> None:
    _bind(testbed, _memfd(testbed), guest_memfd_offset=8, size=PAGE_SIZE)


def _move_guest_memfd(testbed: Testbed) -> None:
    slot = _bind(testbed, _memfd(testbed))
    testbed.machine.vm.memslots.move(slot, TARGET_GPA + TARGET_SIZE)


def _close_descriptor(testbed: Testbed) -> None:
    memfd = _memfd(testbed)
    number = memfd.fileno()
    os.close(number)
    try:
        _bind(testbed, memfd)
    finally:
        os.dup2(testbed.system.fileno(), number)  # for GuestMemfd.close


def _bind_another_file(testbed: Testbed) -> None:
    memfd = _memfd(testbed)
    os.dup2(testbed.system.fileno(), memfd.fileno(), inheritable=False)
    _bind(testbed, memfd)


def _bind_memfd_of_another_vm(testbed: Testbed) -> None:
    other = testbed.stack.enter_context(testbed.system.create_vm())
    _bind(testbed, _memfd(testbed, other))


def _exceed_guest_memfd(testbed: Testbed) -> None:
    _bind(testbed, _memfd(testbed), size=TARGET_SIZE + PAGE_SIZE)


def _bind_twice(testbed: Testbed) -> None:
    memfd = _memfd(testbed)
    _bind(testbed, memfd)
    testbed.machine.vm.memslots.add(
        TARGET_GPA + TARGET_SIZE,
        None,
        guest_memfd=memfd,
        guest_memfd_offset=PAGE_SIZE,
        size=PAGE_SIZE,
    )


def _bind_unmappable(testbed: Testbed) -> None:
    need_arm64(testbed)
    _bind(testbed, _memfd(testbed, flags=0))


def _tag_a_file(testbed: Testbed) -> None:
    need_arm64(testbed)
    vm = testbed.stack.enter_context(testbed.system.create_vm())  # without a vCPU yet
    try:
        vm.enable(KVM_CAP_ARM_MTE)
    except IoctlError:
        raise SkippedError(
            "this CPU has no memory tagging (KVM_CAP_ARM_MTE): in the lab, --cpu max+mte"
        ) from None
    with Path(sys.executable).open("rb") as file:
        memory = Mapping.of_file(file.fileno(), TARGET_SIZE, prot=PROT_READ)
    testbed.stack.enter_context(memory)
    vm.memslots.add(TARGET_GPA, memory)


def _log_bar(testbed: Testbed) -> None:
    need_arm64(testbed)
    memory = testbed.stack.enter_context(_map_any_bar())
    testbed.machine.vm.memslots.add(TARGET_GPA, memory, log_dirty=True)


def _map_any_bar() -> Mapping:
    """Map a page of any PCI device's BAR, without an access to it."""
    for path in sorted(Path("/sys/bus/pci/devices").glob("*/resource[0-5]")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            return Mapping.of_file(fd, PAGE_SIZE)
        except OSError:  # I/O ports, smaller than a page, or in use (CONFIG_IO_STRICT_DEVMEM)
            continue
        finally:
            os.close(fd)
    raise SkippedError("no PCI device has a BAR that can be mapped: in the lab, --device bochs")


def need_arm64(testbed: Testbed) -> None:
    """Raise `SkippedError` on another architecture."""
    if testbed.machine.arch.NAME != "arm64":
        raise SkippedError("needs an arm64 host: python -m pyvmm lab run -- provoke")


PROVOCATIONS = (
    Provocation(
        "slot-beyond-limit", "a memslot numbered KVM_CAP_NR_MEMSLOTS", "slot-number", _exceed_slots
    ),
    Provocation(
        "slot-of-no-address-space",
        "a memslot in address space 7",
        "address-space",
        _add_to_another_address_space,
    ),
    Provocation("slot-unknown-flag", "a memslot with flag bit 31", "flags", _set_unknown_flag),
    Provocation(
        "guest-memfd-without-ioctl",
        "KVM_SET_USER_MEMORY_REGION2 on a kernel without it",
        "region2-unsupported",
        _bind_without_ioctl,
    ),
    Provocation(
        "guest-memfd-unsupported",
        "KVM_MEM_GUEST_MEMFD in a VM without guest_memfd",
        "flags",
        _bind_without_support,
    ),
    Provocation(
        "guest-memfd-read-only", "a read-only guest_memfd memslot", "flags", _bind_read_only
    ),
    Provocation(
        "guest-memfd-logged", "a guest_memfd memslot with dirty logging", "flags", _log_guest_memfd
    ),
    Provocation(
        "slot-size-unaligned", "a memslot of a page and a byte", "size-unaligned", _misalign_size
    ),
    Provocation(
        "slot-gpa-unaligned", "a memslot 8 bytes into a page", "gpa-unaligned", _misalign_gpa
    ),
    Provocation("slot-hva-unaligned", "an HVA 8 bytes into a page", "hva-unaligned", _misalign_hva),
    Provocation("slot-hva-tagged", "an HVA with a tag", "hva-outside-user-space", _tag_hva),
    Provocation(
        "slot-hva-too-high",
        "a memslot of 2^60 bytes",
        "hva-outside-user-space",
        _leave_user_space,
    ),
    Provocation(
        "guest-memfd-offset-unaligned",
        "a guest_memfd offset of 8",
        "guest-memfd-offset",
        _misalign_offset,
    ),
    Provocation("slot-gpa-wraps", "a memslot across the last GPA", "gpa-wraps", _wrap_gpa),
    Provocation("slot-too-large", "a memslot of 2^31 pages", "too-large", _exceed_pages),
    Provocation("slot-deleted-twice", "the deletion of no memslot", "no-such-slot", _delete_twice),
    Provocation("slot-hva-changed", "another HVA for a memslot", "changed-in-place", _change_hva),
    Provocation("slot-resized", "another size for a memslot", "changed-in-place", _resize),
    Provocation(
        "slot-made-read-only",
        "KVM_MEM_READONLY for a memslot that had it not",
        "changed-in-place",
        _make_read_only,
    ),
    Provocation(
        "guest-memfd-moved",
        "another GPA for a guest_memfd memslot",
        "changed-in-place",
        _move_guest_memfd,
    ),
    Provocation("slots-overlap", "two memslots that share a page", "overlap", _overlap),
    Provocation(
        "slot-in-child",
        "a memslot, registered by a forked process",
        "another-process",
        _register_in_child,
    ),
    Provocation(
        "slot-without-memory",
        "a dirty bitmap larger than the host's memory",
        "out-of-memory",
        _exhaust_memory,
    ),
    Provocation(
        "guest-memfd-fd-closed",
        "a memslot over a closed descriptor",
        "guest-memfd-bad-descriptor",
        _close_descriptor,
    ),
    Provocation(
        "guest-memfd-of-another-file",
        "/dev/kvm instead of a guest_memfd",
        "not-a-guest-memfd",
        _bind_another_file,
    ),
    Provocation(
        "guest-memfd-of-another-vm",
        "another VM's guest_memfd",
        "guest-memfd-of-another-vm",
        _bind_memfd_of_another_vm,
    ),
    Provocation(
        "guest-memfd-exceeded",
        "a memslot larger than its guest_memfd",
        "guest-memfd-too-short",
        _exceed_guest_memfd,
    ),
    Provocation(
        "guest-memfd-bound-twice",
        "two memslots of one part of a guest_memfd",
        "guest-memfd-bound",
        _bind_twice,
    ),
    Provocation(
        "slot-logged-in-protected-vm",
        "a memslot of a protected VM with dirty logging",
        "protected-vm",
        _log_protected_vm,
    ),
    Provocation(
        "slot-beyond-ipa-size",
        "a memslot at GPA 2^52",
        "beyond-ipa-size",
        _end_beyond_ipa_size,
    ),
    Provocation(
        "guest-memfd-unmappable",
        "a memslot over a guest_memfd without GUEST_MEMFD_FLAG_MMAP",
        "guest-memfd-not-mappable",
        _bind_unmappable,
    ),
    Provocation(
        "slot-untaggable",
        "a file's memory in a VM with memory tagging",
        "memory-tagging",
        _tag_a_file,
    ),
    Provocation("slot-bar-logged", "a BAR with dirty logging", "dirty-log-of-pfnmap", _log_bar),
    Provocation(
        "slot-beyond-guest-addresses",
        "a memslot that ends at GPA 2^52",
        "beyond-guest-addresses",
        _end_beyond_guest_addresses,
    ),
)
