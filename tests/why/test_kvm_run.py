# SPDX-License-Identifier: GPL-2.0-only
"""Each condition of ``KVM_RUN``, on facts that break it, exclude it or leave it undecided."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pyvmm.errno_names import EHWPOISON
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.backing_file import BackingFile
from pyvmm.memory.hugetlb_pool import HugetlbPool
from pyvmm.memory.memory_cgroup import MemoryLimit
from pyvmm.provoke import fixed_mmap
from pyvmm.uapi.kvm import (
    KVM_CAP_ARM_MTE,
    KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES,
    KVM_CAP_ARM_WRITABLE_IMP_ID_REGS,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_MEMORY_ATTRIBUTES,
    KVM_MEM_READONLY,
)
from pyvmm.why import AccessFacts, Finding, Host, Slot, judge, most_likely, vcpu_conditions
from pyvmm.why.kvm_run import CONDITIONS
from pyvmm.why.slot import UndescribedMemfd
from tests.why.areas import GPA, HVA, SLOT, PresetFacts, area
from tests.why.hosts import ARM64_WITH_FWB, ARM64_WITHOUT_FWB, X86, offering

MEMFD_HOST = offering(KVM_CAP_GUEST_MEMFD)
ATTRIBUTES_HOST = offering(KVM_CAP_MEMORY_ATTRIBUTES, KVM_CAP_GUEST_MEMFD, arch="x86_64")
OLD_KERNEL = replace(ARM64_WITHOUT_FWB, cacheable_pfnmap_rule=False)
UNKNOWN_HOST = Host("arm64")
UNPROTECTED = offering(KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES)
PKVM = offering(KVM_CAP_ARM_WRITABLE_IMP_ID_REGS)  # a host in protected mode

# Entries of pagemap: bits 63 (present), 62 (swap), 58 (guard), 57 (userfaultfd); swap type 31 is a
# PTE marker, whose offset is a set of flags.
PRESENT, UFFD, GUARD = 1 << 63, 1 << 57, 1 << 62 | 1 << 58
HIDDEN = 1 << 62
GUARD_13, POISON = (1 << 62 | marker << 5 | 31 for marker in (4, 2))
HWPOISON = 1 << 62 | 0x1234 << 5 | 25

FULL = BackingFile(4 * PAGE_SIZE, hole=True, full=True)
LIMIT = MemoryLimit("/vmm", 1 << 30, 2)

BAR = "/dev/vfio/devices/vfio0"
ATTRIBUTES = "the memory attributes of the page"
CONTROL_GROUP = "the process's control group"
A_VM = "a VM to ask for its capabilities (/dev/kvm)"
DEVICE = "the state of the device behind the memslot"
HOLE: dict[str, Any] = {"errno": errno.EFAULT, "host": ARM64_WITHOUT_FWB}
MAPPINGS = "the mappings of the process"
MEMSLOTS = "the VM's memslots and the GPA accessed"
PROTECTED = "whether the guest is protected (KVM_VM_TYPE_ARM_PROTECTED)"
RECORD = "the VMM's record of the mapping"
WRITE = "whether the access was a write"


@dataclass(frozen=True)
class Memfd:
    """A guest_memfd as facts."""

    closed: bool
    size: int = 4 * PAGE_SIZE
    flags: int = 0
    owner: object = None


class OffDevice:
    """The region of a device that was removed."""

    name = "BAR4"
    is_ram = False

    def read(self, offset: int, size: int) -> bytes:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def write(self, offset: int, data: bytes) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def failure(self) -> str | None:
        return "the device is no longer on the bus"


@pytest.fixture
def memory() -> Iterator[Mapping]:
    """Four pages of a file."""
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 4 * PAGE_SIZE)
    with Mapping.of_file(fd, 4 * PAGE_SIZE) as memory:
        yield memory
    os.close(fd)


def run(number: int = errno.EFAULT, host: Host = ARM64_WITHOUT_FWB, **known: Any) -> AccessFacts:
    """Return facts without memslots, unless `known` has them."""
    return AccessFacts(errno=number, host=host, **known)


def mapped(memory: Mapping, **changed: Any) -> AccessFacts:
    """Return the facts of a read of the first page of `memory`."""
    known: dict[str, Any] = {
        "errno": errno.EFAULT,
        "host": ARM64_WITHOUT_FWB,
        "exit": "run_failure",
        "known_gpa": GPA,
        "known_access": "read",
        "slot_known": True,
        "known_slot": Slot(3, GPA, memory.size, memory.hva),
        "mapping": memory,
        "pid": "self",
    }
    return AccessFacts(**{**known, **changed})


def described(
    *flags: str, path: str = "/dev/mem", perms: str = "rw-s", **known: Any
) -> AccessFacts:
    """Return the facts of an access to memory with these VmFlags, of another process."""
    known = {"errno": errno.EFAULT, "host": ARM64_WITHOUT_FWB, **known}
    return PresetFacts(preset=area(*flags, path=path, perms=perms), **known)


def accessible(memory: Mapping, *flags: str) -> AccessFacts:
    """Return the facts of an access to readable memory with these VmFlags."""
    slot = Slot(3, GPA, memory.size, memory.hva)
    vma = replace(area(*flags), start=memory.hva, end=memory.hva + memory.size)
    known: dict[str, Any] = {"known_slot": slot, "preset": vma, "pid": "self"}
    return PresetFacts(errno=errno.EFAULT, host=ARM64_WITHOUT_FWB, **known)


def unaligned(*flags: str, **known: Any) -> AccessFacts:
    """Return the facts of a rebuilt access that Device memory does not take."""
    why = "is not aligned to 8 bytes"
    return described(*flags, **{"rebuilt": True, "rebuilt_misalignment": why, **known})


def in_file(backing: BackingFile) -> AccessFacts:
    """Return the facts of an access to a page of a file that cannot be read."""
    return described(path="/guest", backing=backing, entry=0, pid="self")


def in_pool(pool: HugetlbPool, entry: int = 0) -> AccessFacts:
    """Return the facts of an access to hugetlb memory that cannot be read."""
    return described("ht", path="/anon_hugepage", pool=pool, entry=entry, pid="self")


def limited(*flags: str, **known: Any) -> AccessFacts:
    """Return the facts of an access in a control group at its limit."""
    return described(*flags, **{"entry": 0, "limit": LIMIT, **known})


def run_limited(memory: Mapping) -> AccessFacts:
    """Return the facts of a ``KVM_RUN`` that could not charge KVM's own memory."""
    return limited(errno=errno.ENOMEM, known_gpa=None, slot_known=False, known_slot=None)


def atomic(*flags: str, **known: Any) -> AccessFacts:
    """Return the facts of a rebuilt atomic access."""
    return described(
        *flags, **{"rebuilt": True, "rebuilt_atomic": True, "known_access": "read", **known}
    )


def tagged(*flags: str, path: str = "", device: str = "00:00", **known: Any) -> AccessFacts:
    """Return the facts of an access in a VM with MTE."""
    vma = replace(area(*flags, path=path), device=device)
    known = {"known_enabled": (KVM_CAP_ARM_MTE,), "host": ARM64_WITHOUT_FWB, **known}
    return PresetFacts(preset=vma, errno=errno.EFAULT, **known)


def unmapped(memory: Mapping, **changed: Any) -> AccessFacts:
    memory.unmap()
    return mapped(memory, **changed)


def protected(memory: Mapping, prot: int, **changed: Any) -> AccessFacts:
    memory.protect(prot)
    return mapped(memory, **changed)


def read_only_slot(memory: Mapping) -> Slot:
    return Slot(3, GPA, memory.size, memory.hva, KVM_MEM_READONLY)


def removed(memory: Mapping) -> AccessFacts:
    memory.backing = OffDevice()
    return mapped(memory)


def truncated(memory: Mapping, size: int = 0, **changed: Any) -> AccessFacts:
    [placement] = memory.placements.within(0, memory.size)
    assert placement.fd is not None
    os.ftruncate(placement.fd, size)
    return mapped(memory, **changed)


def replaced(memory: Mapping, **changed: Any) -> AccessFacts:
    fixed_mmap.map_anonymous(memory.hva, memory.size)
    return mapped(memory, **changed)


def anonymous_replaced_by_file(memory: Mapping) -> AccessFacts:
    [placement] = memory.placements.within(0, memory.size)
    assert placement.fd is not None
    memory.place_anonymous()
    fixed_mmap.map_file(memory.hva, memory.size, placement.fd)
    return mapped(memory)


def attributes(
    memory: Mapping, private: bool | None, page_private: bool | None, **changed: Any
) -> AccessFacts:
    """Return the facts of a memory fault on x86, and the page's attribute."""
    return mapped(
        memory,
        host=ATTRIBUTES_HOST,
        exit="memory_fault",
        private=private,
        known_page_private=page_private,
        **changed,
    )


def memfd_slot(memfd: object) -> Slot:
    return replace(SLOT, guest_memfd=memfd)  # type: ignore[arg-type]


def memfd(memfd: object, **known: Any) -> AccessFacts:
    """Return the facts of an access through a guest_memfd slot over a hole."""
    known = {"host": MEMFD_HOST, "known_slot": memfd_slot(memfd), **known}
    return PresetFacts(errno=errno.EFAULT, preset=None, **known)


def writes(**known: Any) -> dict[str, Any]:
    return {"known_access": "write", **known}


# The condition, what the case is, its facts, and the finding: a mark, "not tested" for an errno
# that the condition cannot give, or else the absent fact.
Row = tuple[str, str, Callable[[Mapping], AccessFacts], str]

ROWS: tuple[Row, ...] = (
    ("external-abort", "arm_sea", lambda m: run(0, exit="arm_sea", esr=0x10), "known"),
    ("external-abort", "another exit", lambda m: run(0, exit="arm_nisv"), "impossible"),
    ("external-abort", "unknown exit", lambda m: run(0), "the exit"),
    ("external-abort", "EFAULT", lambda m: run(exit="run_failure"), "not tested"),
    ("hardware-poison", "SIGBUS", lambda m: run(0, poisoned_hva=HVA), "inferred"),
    (
        "hardware-poison",
        "SIGBUS, and no marker",
        lambda m: described(entry=HWPOISON, errno=0, poisoned_hva=HVA),
        "known",
    ),
    (
        "hardware-poison",
        "SIGBUS, hidden",
        lambda m: described(entry=HIDDEN, errno=0, poisoned_hva=HVA),
        "inferred",
    ),
    (
        "hardware-poison",
        "SIGBUS before an access",
        lambda m: run(0, poisoned_hva=HVA, poison_consumed=False),
        "known",
    ),
    ("hardware-poison", "EHWPOISON", lambda m: run(EHWPOISON), "inferred"),
    ("hardware-poison", "another exit", lambda m: run(0, exit="arm_nisv"), "impossible"),
    ("hardware-poison", "EFAULT", lambda m: run(), "not tested"),
    ("mmio-no-syndrome", "bare ENOSYS", lambda m: run(errno.ENOSYS), "known"),
    ("mmio-no-syndrome", "on x86", lambda m: run(errno.ENOSYS, X86), "impossible"),
    ("mmio-no-syndrome", "EFAULT", lambda m: run(), "not tested"),
    (
        "mmio-no-syndrome",
        "arm_nisv at a device",
        lambda m: run(0, exit="arm_nisv", device_at_gpa=True),
        "known",
    ),
    (
        "mmio-no-syndrome",
        "arm_ldst64b at a device",
        lambda m: run(0, exit="arm_ldst64b", device_at_gpa=True),
        "known",
    ),
    (
        "mmio-no-syndrome",
        "arm_nisv without a device",
        lambda m: run(0, exit="arm_nisv", device_at_gpa=False),
        "impossible",
    ),
    (
        "mmio-no-syndrome",
        "arm_nisv, devices unknown",
        lambda m: run(0, exit="arm_nisv"),
        "the devices the VMM emulates",
    ),
    ("mmio-no-syndrome", "another exit", lambda m: run(0, exit="mmio"), "impossible"),
    ("memory-attributes", "private", lambda m: attributes(m, True, False), "known"),
    ("memory-attributes", "shared", lambda m: attributes(m, False, True), "known"),
    ("memory-attributes", "as set", lambda m: attributes(m, True, True), "impossible"),
    ("memory-attributes", "not recorded", lambda m: attributes(m, True, None), ATTRIBUTES),
    ("memory-attributes", "no memory_fault", lambda m: attributes(m, None, True), "impossible"),
    ("memory-attributes", "no attributes", lambda m: mapped(m, private=True), "impossible"),
    (
        "memory-attributes",
        "outside memslots",
        lambda m: attributes(m, True, False, known_slot=None),
        "known",
    ),
    ("guest-memfd-missing", "private as set", lambda m: attributes(m, True, True), "known"),
    ("guest-memfd-missing", "not recorded", lambda m: attributes(m, True, None), "inferred"),
    ("guest-memfd-missing", "shared", lambda m: attributes(m, False, True), "impossible"),
    (
        "guest-memfd-missing",
        "outside memslots",
        lambda m: attributes(m, True, True, known_slot=None),
        "impossible",
    ),
    (
        "guest-memfd-missing",
        "guest_memfd",
        lambda m: attributes(m, True, True, known_slot=memfd_slot(Memfd(closed=False))),
        "impossible",
    ),
    ("guest-memfd-missing", "on arm64", lambda m: mapped(m, private=True), "impossible"),
    ("outside-memslots", "no slot", lambda m: run(known_gpa=GPA, slot_known=True), "known"),
    (
        "outside-memslots",
        "a device of the VMM's",
        lambda m: run(known_gpa=GPA, slot_known=True, device_at_gpa=True),
        "impossible",
    ),
    (
        "outside-memslots",
        "write to a read-only slot",
        lambda m: mapped(m, known_slot=read_only_slot(m), known_access="write"),
        "known",
    ),
    (
        "outside-memslots",
        "read of a read-only slot",
        lambda m: mapped(m, known_slot=read_only_slot(m)),
        "impossible",
    ),
    (
        "outside-memslots",
        "unknown access to a read-only slot",
        lambda m: mapped(m, known_slot=read_only_slot(m), known_access=None),
        WRITE,
    ),
    ("outside-memslots", "writable slot", lambda m: mapped(m, known_access="write"), "impossible"),
    ("outside-memslots", "unknown memslots", lambda m: run(), MEMSLOTS),
    ("guest-memfd-closed", "closed", lambda m: memfd(Memfd(closed=True)), "known"),
    ("guest-memfd-closed", "open", lambda m: memfd(Memfd(closed=False)), "impossible"),
    ("guest-memfd-closed", "no guest_memfd", lambda m: mapped(m, host=MEMFD_HOST), "impossible"),
    (
        "guest-memfd-closed",
        "kernel without guest_memfd",
        lambda m: memfd(Memfd(closed=True), host=ARM64_WITHOUT_FWB),
        "impossible",
    ),
    (
        "guest-memfd-closed",
        "unknown kernel",
        lambda m: memfd(Memfd(closed=True), host=UNKNOWN_HOST),
        A_VM,
    ),
    (
        "guest-memfd-closed",
        "described by its number",
        lambda m: memfd(UndescribedMemfd()),
        "whether the guest_memfd was closed",
    ),
    ("hva-unmapped", "hole", unmapped, "known"),
    ("hva-unmapped", "mapped", mapped, "impossible"),
    ("hva-unmapped", "outside memslots", lambda m: run(slot_known=True), "impossible"),
    ("hva-unmapped", "guest_memfd", lambda m: memfd(Memfd(closed=True)), "impossible"),
    ("hva-unmapped", "unknown mappings", lambda m: mapped(m, pid=None), MAPPINGS),
    ("hva-unmapped", "unknown memslots", lambda m: run(), MEMSLOTS),
    ("hva-unmapped", "MMIO exit of x86", lambda m: unmapped(m, errno=0, host=X86), "known"),
    ("hva-unmapped", "ENOMEM", lambda m: unmapped(m, errno=errno.ENOMEM), "not tested"),
    ("hva-no-access", "PROT_NONE", lambda m: protected(m, PROT_NONE), "known"),
    ("hva-no-access", "PROT_READ", lambda m: protected(m, PROT_READ), "impossible"),
    ("hva-no-access", "hole", unmapped, "impossible"),
    ("hva-read-only", "write", lambda m: protected(m, PROT_READ, **writes()), "known"),
    ("hva-read-only", "read", lambda m: protected(m, PROT_READ), "impossible"),
    ("hva-read-only", "writable", lambda m: mapped(m, known_access="write"), "impossible"),
    (
        "hva-read-only",
        "read-only slot",
        lambda m: protected(m, PROT_READ, **writes(known_slot=read_only_slot(m))),
        "impossible",
    ),
    (
        "hva-read-only",
        "unknown access",
        lambda m: protected(m, PROT_READ, known_access=None),
        WRITE,
    ),
    ("guard-region", "guarded", lambda m: described(entry=GUARD), "known"),
    ("guard-region", "guarded, Linux 6.13 as root", lambda m: described(entry=GUARD_13), "known"),
    ("guard-region", "another page of the VMA", lambda m: described(entry=0), "impossible"),
    ("guard-region", "accessible", mapped, "impossible"),
    ("guard-region", "hole", unmapped, "impossible"),
    ("guard-region", "unknown process", lambda m: described("gu"), MAPPINGS),
    ("poison-marker", "marked", lambda m: described(entry=POISON, errno=0), "known"),
    ("poison-marker", "hidden", lambda m: described(entry=HIDDEN, errno=0), "impossible"),
    ("poison-marker", "hardware's", lambda m: described(entry=HWPOISON, errno=0), "impossible"),
    ("poison-marker", "EFAULT", lambda m: described(entry=POISON), "not tested"),
    ("userfaultfd-missing", "missing", lambda m: described("um", entry=0), "inferred"),
    ("userfaultfd-missing", "minor", lambda m: described("ui", entry=0), "inferred"),
    ("userfaultfd-missing", "present", lambda m: described("um", entry=PRESENT), "impossible"),
    ("userfaultfd-missing", "swapped", lambda m: described("um", entry=HIDDEN), "impossible"),
    (
        "userfaultfd-missing",
        "read-protected",
        lambda m: described("ur", entry=PRESENT | UFFD),
        "inferred",
    ),
    ("userfaultfd-missing", "not watched", lambda m: described(entry=0), "impossible"),
    ("userfaultfd-missing", "hole", unmapped, "impossible"),
    ("userfaultfd-missing", "unknown process", lambda m: described("um"), MAPPINGS),
    (
        "userfaultfd-wp",
        "write",
        lambda m: described("uw", entry=PRESENT | UFFD, **writes()),
        "inferred",
    ),
    (
        "userfaultfd-wp",
        "read",
        lambda m: described("uw", entry=PRESENT | UFFD, known_access="read"),
        "impossible",
    ),
    (
        "userfaultfd-wp",
        "unprotected",
        lambda m: described("uw", entry=PRESENT, **writes()),
        "impossible",
    ),
    ("userfaultfd-wp", "unknown access", lambda m: described("uw", entry=PRESENT | UFFD), WRITE),
    ("device-memory-off", "removed device", removed, "known"),
    ("device-memory-off", "no device", mapped, "impossible"),
    (
        "device-memory-off",
        "unknown device",
        lambda m: mapped(m, mapping=None),
        "the state of the device behind the memslot",
    ),
    ("device-unaligned", "read", lambda m: unaligned("pf", known_access="read"), "inferred"),
    (
        "device-unaligned",
        "aligned",
        lambda m: unaligned("pf", rebuilt_misalignment=None),
        "impossible",
    ),
    ("device-unaligned", "Normal-NC", lambda m: unaligned("pf", "??"), "impossible"),
    ("device-unaligned", "MIXEDMAP", lambda m: unaligned("mm", known_access="read"), "inferred"),
    ("device-unaligned", "ordinary memory", lambda m: unaligned(), "impossible"),
    ("device-unaligned", "cacheable", lambda m: unaligned("pf", rejected=True), "impossible"),
    (
        "device-unaligned",
        "cacheable with FWB",
        lambda m: unaligned("pf", path="/dev/vfio/devices/vfio0", host=ARM64_WITH_FWB),
        "impossible",
    ),
    (
        "device-unaligned",
        "write to a private copy",
        lambda m: unaligned("pf", perms="rw-p", known_access="write"),
        "impossible",
    ),
    (
        "device-unaligned",
        "read of a private mapping",
        lambda m: unaligned("pf", perms="rw-p", known_access="read"),
        "inferred",
    ),
    (
        "device-unaligned",
        "not rebuilt",
        lambda m: unaligned("pf", rebuilt=False),
        "the instruction that made the access",
    ),
    (
        "device-unaligned",
        "write to a dma-buf",
        lambda m: unaligned("pf", path="/dmabuf:", **writes()),
        "impossible",
    ),
    (
        "device-unaligned",
        "read of a dma-buf",
        lambda m: unaligned("pf", path="/dmabuf:", known_access="read"),
        "inferred",
    ),
    ("device-unaligned", "on x86", lambda m: unaligned("pf", host=X86), "impossible"),
    ("device-unaligned", "no errno", lambda m: unaligned("pf", errno=0), "not tested"),
    ("device-atomic", "Device", lambda m: atomic("pf"), "inferred"),
    ("device-atomic", "Normal-NC", lambda m: atomic("pf", "??"), "inferred"),
    ("device-atomic", "cacheable", lambda m: atomic("pf", rejected=True), "impossible"),
    ("device-atomic", "not atomic", lambda m: atomic("pf", rebuilt_atomic=False), "impossible"),
    ("device-atomic", "ordinary memory", lambda m: atomic(), "impossible"),
    (
        "device-atomic",
        "write to a private copy",
        lambda m: atomic("pf", perms="rw-p", **writes()),
        "impossible",
    ),
    (
        "device-atomic",
        "not rebuilt",
        lambda m: atomic("pf", rebuilt=False),
        "the instruction that made the access",
    ),
    ("device-atomic", "on x86", lambda m: atomic("pf", host=X86), "impossible"),
    ("memory-tagging", "a file", lambda m: tagged(path="/data", device="08:01"), "known"),
    ("memory-tagging", "anonymous memory", lambda m: tagged(), "impossible"),
    ("memory-tagging", "hugetlb", lambda m: tagged("ht"), "inferred"),
    ("memory-tagging", "RAM mapped by PFN", lambda m: tagged("pf", path="/dmabuf:"), "inferred"),
    ("memory-tagging", "a BAR", lambda m: tagged("pf", path=BAR), "impossible"),
    (
        "memory-tagging",
        "not enabled",
        lambda m: tagged(path="/data", device="08:01", known_enabled=()),
        "impossible",
    ),
    (
        "memory-tagging",
        "unknown VM",
        lambda m: tagged(path="/data", known_enabled=None),
        "the capabilities enabled by KVM_ENABLE_CAP",
    ),
    ("memory-tagging", "on x86", lambda m: tagged(path="/data", host=X86), "impossible"),
    (
        "pfnmap-not-writable",
        "private",
        lambda m: described("pf", perms="rw-p", **writes()),
        "known",
    ),
    ("pfnmap-not-writable", "shared", lambda m: described("pf", **writes()), "inferred"),
    ("pfnmap-not-writable", "read", lambda m: described("pf", known_access="read"), "impossible"),
    ("pfnmap-not-writable", "ordinary memory", lambda m: described(**writes()), "impossible"),
    (
        "pfnmap-not-writable",
        "vfio",
        lambda m: described("pf", "??", path="anon_inode:[vfio-device]", **writes()),
        "impossible",
    ),
    (
        "pfnmap-not-writable",
        "cacheable",
        lambda m: described("pf", path=BAR, **writes(rejected=True)),
        "impossible",
    ),
    (
        "pfnmap-not-writable",
        "cacheable RAM",
        lambda m: described("pf", path="/dmabuf:", **writes(rejected=True)),
        "inferred",
    ),
    ("pfnmap-not-writable", "unknown access", lambda m: described("pf"), "inferred"),
    (
        "pfnmap-not-writable",
        "unknown access, private",
        lambda m: described("pf", perms="rw-p"),
        "inferred",
    ),
    (
        "pfnmap-not-writable",
        "unknown access, read-only",
        lambda m: described("pf", perms="r--s"),
        "impossible",
    ),
    ("pfnmap-not-writable", "x86", lambda m: described("pf", **writes(host=X86)), "impossible"),
    (
        "pfnmap-not-writable",
        "ENOMEM",
        lambda m: described("pf", perms="rw-p", **writes(errno=errno.ENOMEM)),
        "not tested",
    ),
    (
        "cacheable-pfnmap-unsupported",
        "rejected",
        lambda m: described("pf", path=BAR, rejected=True),
        "known",
    ),
    (
        "cacheable-pfnmap-unsupported",
        "accepted by KVM",
        lambda m: described("pf", rejected=False),
        "impossible",
    ),
    (
        "cacheable-pfnmap-unsupported",
        "perhaps RAM",
        lambda m: described("pf", path="/dmabuf:", rejected=True),
        "inferred",
    ),
    (
        "cacheable-pfnmap-unsupported",
        "MIXEDMAP",
        lambda m: described("mm", pid="self"),
        "inferred",
    ),
    (
        "cacheable-pfnmap-unsupported",
        "MIXEDMAP of accessible RAM",
        lambda m: accessible(m, "mm"),
        "impossible",
    ),
    ("cacheable-pfnmap-unsupported", "another process", lambda m: described("pf"), "inferred"),
    (
        "cacheable-pfnmap-unsupported",
        "another process, VM_ALLOW_ANY_UNCACHED",
        lambda m: described("pf", "??"),
        "impossible",
    ),
    ("cacheable-pfnmap-unsupported", "ordinary memory", lambda m: described(), "impossible"),
    (
        "cacheable-pfnmap-unsupported",
        "CPU with FWB and DIC",
        lambda m: described("pf", host=ARM64_WITH_FWB),
        "impossible",
    ),
    (
        "cacheable-pfnmap-unsupported",
        "kernel without the rule",
        lambda m: described("pf", host=OLD_KERNEL, rejected=True),
        "impossible",
    ),
    ("cacheable-pfnmap-unsupported", "x86", lambda m: described("pf", host=X86), "impossible"),
    (
        "cacheable-pfnmap-unsupported",
        "unknown kernel",
        lambda m: described("pf", host=UNKNOWN_HOST),
        A_VM,
    ),
    ("cacheable-pfnmap-unsupported", "unknown memslots", lambda m: run(), MEMSLOTS),
    (
        "device-not-ready",
        "vfio",
        lambda m: described("pf", "??", path=BAR, mapping=m),
        "inferred",
    ),
    (
        "device-not-ready",
        "device memory off",
        lambda m: (removed(m), described("pf", "??", path=BAR, mapping=m))[1],
        "impossible",
    ),
    (
        "device-not-ready",
        "sysfs",
        lambda m: described("pf", path="/sys/devices/pci/resource0", mapping=m),
        "impossible",
    ),
    ("device-not-ready", "hole", lambda m: PresetFacts(preset=None, **HOLE), "impossible"),
    ("device-not-ready", "unknown device", lambda m: described("pf", "??", path=BAR), DEVICE),
    ("file-truncated", "before the page", truncated, "known"),
    ("file-truncated", "after the page", lambda m: truncated(m, PAGE_SIZE), "impossible"),
    ("file-truncated", "inaccessible file", lambda m: protected(m, PROT_NONE), "impossible"),
    ("file-truncated", "replaced", lambda m: (truncated(m), replaced(m))[1], "impossible"),
    (
        "file-truncated",
        "in another process",
        lambda m: in_file(BackingFile(0, False, False)),
        "known",
    ),
    ("file-truncated", "unknown process", lambda m: truncated(m, pid=None), MAPPINGS),
    ("file-system-full", "hole", lambda m: in_file(FULL), "known"),
    ("file-system-full", "data", lambda m: in_file(replace(FULL, hole=False)), "impossible"),
    ("file-system-full", "room", lambda m: in_file(replace(FULL, full=False)), "impossible"),
    ("file-system-full", "no file", lambda m: described(pid="self", entry=0), "impossible"),
    ("file-system-full", "accessible", mapped, "impossible"),
    ("hugetlb-pool-empty", "empty", lambda m: in_pool(HugetlbPool(0, 0, 0, 0)), "inferred"),
    ("hugetlb-pool-empty", "reserved", lambda m: in_pool(HugetlbPool(2, 2, 0, 0)), "inferred"),
    ("hugetlb-pool-empty", "free", lambda m: in_pool(HugetlbPool(2, 1, 0, 0)), "impossible"),
    ("hugetlb-pool-empty", "overcommit", lambda m: in_pool(HugetlbPool(0, 0, 0, 1)), "impossible"),
    (
        "hugetlb-pool-empty",
        "present",
        lambda m: in_pool(HugetlbPool(0, 0, 0, 0), PRESENT),
        "impossible",
    ),
    ("hugetlb-pool-empty", "small pages", lambda m: described(entry=0, pid="self"), "impossible"),
    ("memory-cgroup-limit", "no page", lambda m: limited(), "inferred"),
    ("memory-cgroup-limit", "ENOMEM", lambda m: run_limited(m), "inferred"),
    ("memory-cgroup-limit", "a page", lambda m: limited(entry=PRESENT), "impossible"),
    ("memory-cgroup-limit", "PFNMAP", lambda m: limited("pf"), "impossible"),
    ("memory-cgroup-limit", "room", lambda m: limited(limit=None), "impossible"),
    ("memory-cgroup-limit", "unknown process", lambda m: run(errno.ENOMEM), CONTROL_GROUP),
    ("file-truncated", "MMIO exit of x86", lambda m: truncated(m, errno=0, host=X86), "known"),
    (
        "protected-not-swap-backed",
        "protected",
        lambda m: run(errno.EIO, protected=True),
        "inferred",
    ),
    (
        "protected-not-swap-backed",
        "not protected",
        lambda m: run(errno.EIO, protected=False),
        "impossible",
    ),
    ("protected-not-swap-backed", "unknown", lambda m: run(errno.EIO), PROTECTED),
    (
        "protected-memory-locked",
        "protected",
        lambda m: run(errno.ENOMEM, protected=True),
        "inferred",
    ),
    (
        "protected-memory-locked",
        "not protected",
        lambda m: run(errno.ENOMEM, protected=False),
        "impossible",
    ),
    ("protected-memory-locked", "unknown", lambda m: run(errno.ENOMEM), PROTECTED),
    ("protected-reclaimed", "protected", lambda m: run(protected=True), "inferred"),
    ("protected-reclaimed", "not protected", lambda m: run(protected=False), "impossible"),
    ("protected-reclaimed", "unknown", lambda m: run(), PROTECTED),
    ("protected-reclaimed", "x86", lambda m: run(host=X86, protected=True), "impossible"),
    (
        "protected-device-memory",
        "BAR, protected mode",
        lambda m: described("pf", "io", errno=errno.EPERM, host=PKVM),
        "inferred",
    ),
    (
        "protected-device-memory",
        "BAR, another mode",
        lambda m: described("pf", "io", errno=errno.EPERM, host=UNPROTECTED),
        "impossible",
    ),
    (
        "protected-device-memory",
        "RAM, protected mode",
        lambda m: described("ac", errno=errno.EPERM, host=PKVM),
        "impossible",
    ),
    ("vma-replaced", "by anonymous memory", replaced, "inferred"),
    ("vma-replaced", "by a file", anonymous_replaced_by_file, "inferred"),
    ("vma-replaced", "as mapped", mapped, "impossible"),
    ("vma-replaced", "hole", unmapped, "impossible"),
    ("vma-replaced", "unknown mapping", lambda m: mapped(m, mapping=None), RECORD),
    ("secret-memory", "secretmem", lambda m: described(path="/secretmem (deleted)"), "known"),
    ("secret-memory", "another file", mapped, "impossible"),
    ("secret-memory", "hole", unmapped, "impossible"),
)


@pytest.mark.parametrize(
    ("name", "facts", "expected"),
    [pytest.param(name, facts, found, id=f"{name}-{case}") for name, case, facts, found in ROWS],
)
def test_finding(
    memory: Mapping, name: str, facts: Callable[[Mapping], AccessFacts], expected: str
) -> None:
    [condition] = [each for each in CONDITIONS if each.name == name]
    assert summary(list(judge([condition], facts(memory)))) == expected


def summary(findings: list[Finding]) -> str:
    """Return the absent fact or the mark of the only finding, or "not tested"."""
    if not findings:
        return "not tested"
    [finding] = findings
    return finding.needs or finding.mark


def test_each_condition_is_broken_and_excluded_by_some_facts() -> None:
    for condition in (each for each in CONDITIONS if each not in vcpu_conditions.CONDITIONS):
        marks = {expected for name, *_, expected in ROWS if name == condition.name}
        assert marks & {"known", "inferred"}, condition.name
        assert marks & {"impossible"}, condition.name


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (mapped, None),
        (lambda m: (truncated(m), unmapped(m))[1], "hva-unmapped"),
        (lambda m: (replaced(m), protected(m, PROT_NONE))[1], "hva-no-access"),
        (lambda m: (removed(m), protected(m, PROT_READ, **writes()))[1], "hva-read-only"),
        (
            lambda m: described("pf", path=BAR, **writes(rejected=True)),
            "cacheable-pfnmap-unsupported",
        ),
        (lambda m: described("pf", **writes()), "pfnmap-not-writable"),
        (
            lambda m: described("pf", path="/dmabuf:", **writes(rejected=True)),
            "pfnmap-not-writable",
        ),
        (lambda m: described("pf", **writes(errno=errno.ENOMEM)), None),
        (lambda m: unaligned("pf", **writes()), "device-unaligned"),
        (lambda m: unaligned("pf", path="/dmabuf:", **writes()), "pfnmap-not-writable"),
        (lambda m: memfd(Memfd(closed=True)), "guest-memfd-closed"),
        (
            lambda m: attributes(m, True, False, known_slot=memfd_slot(Memfd(closed=True))),
            "memory-attributes",
        ),
        (
            lambda m: attributes(m, True, True, known_slot=memfd_slot(Memfd(closed=True))),
            "guest-memfd-closed",
        ),
        (lambda m: attributes(m, True, True), "guest-memfd-missing"),
        (lambda m: attributes(m, True, True, known_slot=None), "outside-memslots"),
        (lambda m: run(protected=True), "protected-reclaimed"),
        (lambda m: run(errno.ENOSYS), "mmio-no-syndrome"),
        (lambda m: run(errno.ENOSYS, X86), None),
        (lambda m: run(errno.EINTR), None),
    ],
    ids=[
        "healthy",
        "unmapped and truncated",
        "replaced and inaccessible",
        "read-only and removed",
        "cacheable",
        "pfnmap",
        "pfnmap RAM that KVM would not register",
        "ENOMEM",
        "unaligned",
        "unaligned on a dma-buf",
        "guest_memfd",
        "shared page, closed guest_memfd",
        "private page, closed guest_memfd",
        "private page, no guest_memfd",
        "private page, no slot",
        "protected",
        "ENOSYS",
        "ENOSYS on x86",
        "EINTR",
    ],
)
def test_the_first_broken_condition_is_the_cause(
    memory: Mapping, facts: Callable[[Mapping], AccessFacts], cause: str | None
) -> None:
    finding = most_likely(CONDITIONS, facts(memory))
    assert (finding and finding.name) == cause


def test_mixedmap_is_not_said_to_have_replaced_the_mapping() -> None:
    for flag, said in (("pf", True), ("mm", False)):
        finding = most_likely(CONDITIONS, described(flag, known_access="read", pid="self"))
        assert finding
        assert finding.name == "cacheable-pfnmap-unsupported"
        assert ("KVM would have rejected a memslot" in finding.why) is said


def test_pfnmap_memory_that_may_be_ram_is_said_to_be() -> None:
    for path, said in (("/dmabuf:", True), (BAR.replace("vfio0", "vfio1"), False)):
        facts = unaligned("pf", path=path, known_access="read", host=OLD_KERNEL)
        finding = most_likely(CONDITIONS, facts)
        assert finding
        assert finding.name == "device-unaligned"
        assert ("unless it is RAM" in finding.why) is said
