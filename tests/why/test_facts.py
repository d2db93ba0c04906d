# SPDX-License-Identifier: GPL-2.0-only
"""Facts of this process's mappings, and facts that nobody provided."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Mapping
from pyvmm.memory.backing_file import BackingFile
from pyvmm.provoke import fixed_mmap
from pyvmm.uapi.kvm import (
    KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED,
    KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES,
    KVM_CAP_ARM_WRITABLE_IMP_ID_REGS,
)
from pyvmm.why import Absent, AccessFacts, Host, RegistrationFacts, Slot
from pyvmm.why.facts import missing_features
from pyvmm.why.slot import UndescribedMemfd
from tests.userfaultfds import watched_for_missing
from tests.why.areas import GPA, PresetFacts, area
from tests.why.hosts import ARM64_WITH_FWB, ARM64_WITHOUT_FWB, X86, offering

SIZE = 4 * PAGE_SIZE
NO_PROCESS = 4194305  # beyond PID_MAX_LIMIT
CACHEABLE = KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
OLD_KERNEL = replace(ARM64_WITHOUT_FWB, cacheable_pfnmap_rule=False)


@pytest.fixture
def memory() -> Iterator[Mapping]:
    with Mapping.anonymous(SIZE) as memory:
        yield memory


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


def access(memory: Mapping, gpa: int = GPA, **changed: Any) -> AccessFacts:
    """Return the facts of an access through a memslot over `memory`."""
    known: dict[str, Any] = {
        "host": X86,
        "known_gpa": gpa,
        "slot_known": True,
        "known_slot": Slot(0, GPA, memory.size, memory.hva),
        "mapping": memory,
        "pid": "self",
        **changed,
    }
    return AccessFacts(errno=errno.EFAULT, **known)


def request(memory: Mapping, **known: Any) -> RegistrationFacts:
    slot = Slot(0, GPA, memory.size, memory.hva)
    return RegistrationFacts(errno=errno.EINVAL, host=X86, slot=slot, **known)


NOTHING = AccessFacts(errno=errno.EFAULT, host=Host("arm64"))
REQUEST = RegistrationFacts(
    errno=errno.EINVAL, host=Host("arm64"), slot=Slot(0, GPA, PAGE_SIZE, PAGE_SIZE)
)


@pytest.mark.parametrize(
    ("read", "fact"),
    [
        (lambda: REQUEST.memslots, "the VM's memslots"),
        (lambda: REQUEST.existing, "the VM's memslots"),
        (lambda: REQUEST.ipa_bits, "the machine type of KVM_CREATE_VM"),
        (lambda: REQUEST.enabled, "the capabilities enabled by KVM_ENABLE_CAP"),
        (lambda: REQUEST.vmas, "the mappings of the process"),
        (lambda: NOTHING.gpa, "the GPA accessed"),
        (lambda: NOTHING.writes, "whether the access was a write"),
        (lambda: NOTHING.misalignment, "the instruction that made the access"),
        (lambda: NOTHING.slot, "the VM's memslots and the GPA accessed"),
        (lambda: NOTHING.host_slot, "the VM's memslots and the GPA accessed"),
        (lambda: NOTHING.page, "the VM's memslots and the GPA accessed"),
        (lambda: NOTHING.readable, "the mappings of the process"),
        (lambda: NOTHING.next_area, "the mappings of the process"),
        (lambda: NOTHING.placement, "the VMM's record of the mapping"),
        (lambda: NOTHING.backing_failure, "the state of the device behind the memslot"),
        (lambda: NOTHING.host.offers(CACHEABLE), "a VM to ask for its capabilities (/dev/kvm)"),
        (
            lambda: NOTHING.host.rejects_cacheable_pfnmap,
            "a VM to ask for its capabilities (/dev/kvm)",
        ),
    ],
)
def test_reading_an_absent_fact(read: Callable[[], object], fact: str) -> None:
    with pytest.raises(Absent) as absent:
        read()
    assert str(absent.value) == fact


def test_the_mappings_of_no_process_are_absent(memory: Mapping) -> None:
    with pytest.raises(Absent, match="the mappings of the process"):
        assert access(memory, pid=NO_PROCESS).vma
    with pytest.raises(Absent, match="the mappings of the process"):
        assert request(memory, pid=NO_PROCESS).vmas


@pytest.mark.parametrize(
    ("host", "rejects"),
    [
        (ARM64_WITHOUT_FWB, True),
        (ARM64_WITH_FWB, False),
        (OLD_KERNEL, False),
        (X86, False),
        (Host("x86_64"), False),
    ],
    ids=["arm64", "FWB and DIC", "kernel without the rule", "x86", "x86 without a VM"],
)
def test_hosts_that_reject_cacheable_pfnmap(host: Host, rejects: bool) -> None:
    assert host.rejects_cacheable_pfnmap is rejects


PROTECTED_MODE = offering(KVM_CAP_ARM_WRITABLE_IMP_ID_REGS)
OTHER_MODE = offering(KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES)


@pytest.mark.parametrize(
    ("host", "protected", "reads"),
    [
        (PROTECTED_MODE, None, False),
        (PROTECTED_MODE, False, True),
        (OTHER_MODE, None, True),
        (OTHER_MODE, True, False),
        (offering(), None, True),
        (Host("arm64"), None, True),
        (X86, None, True),
    ],
    ids=[
        "perhaps protected",
        "not protected",
        "other mode",
        "protected",
        "old kernel",
        "no VM",
        "x86",
    ],
)
def test_a_protected_guests_memory_is_not_read(
    memory: Mapping, host: Host, protected: bool | None, reads: bool
) -> None:
    memory.write(0, b"anything")
    facts = access(memory, host=host, protected=protected)
    if reads:
        assert facts.readable
    else:
        with pytest.raises(Absent, match="the memory of a protected guest"):
            _ = facts.readable


@pytest.mark.parametrize(
    ("fwb", "dic", "missing"),
    [
        (True, True, None),
        (False, True, "this CPU has no FWB (ID_AA64MMFR2_EL1.FWB, bits 43:40, is 0)"),
        (True, False, "this CPU has no DIC (CTR_EL0.DIC, bit 29, is 0)"),
        (False, False, "bits 43:40, is 0) and no DIC"),
    ],
)
def test_missing_features(fwb: bool, dic: bool, missing: str | None) -> None:
    clause = missing_features(fwb=fwb, dic=dic)
    assert clause is None if missing is None else clause and missing in clause
    if missing:
        assert Host("arm64", fwb=fwb, dic=dic).missing_for_cacheable_pfnmap == clause


def test_unknown_features_are_named_together() -> None:
    assert Host("arm64").missing_for_cacheable_pfnmap == "KVM needs both FWB and DIC"


def test_a_request_finds_its_memslot_and_vmas(memory: Mapping) -> None:
    memory.protect(PROT_READ, at=PAGE_SIZE, size=PAGE_SIZE)
    old = Slot(0, 0, PAGE_SIZE, PAGE_SIZE)
    facts = request(memory, pid="self", known_slots=[Slot(1, 0, 0, 0), old])
    assert facts.existing is old
    assert [vma.perms for vma in facts.vmas] == ["rw-p", "r--p", "rw-p"]
    assert facts.in_user_space


def test_a_range_outside_user_space() -> None:
    slot = Slot(0, GPA, PAGE_SIZE, 1 << 63)
    assert not replace(REQUEST, slot=slot).in_user_space


def test_the_page_behind_a_gpa(memory: Mapping) -> None:
    facts = access(memory, GPA + PAGE_SIZE + 5)
    assert (facts.page, facts.at) == (memory.hva + PAGE_SIZE, PAGE_SIZE)
    assert facts.area
    assert facts.vma
    assert facts.area.start == facts.vma.start <= facts.page < facts.area.end == facts.vma.end
    assert facts.area_allows(PROT_READ | PROT_WRITE)
    assert (facts.readable, facts.pfnmap, facts.private_mapping) == (True, False, True)


@pytest.mark.parametrize(
    ("prot", "readable", "writable"), [(PROT_NONE, False, False), (PROT_READ, True, False)]
)
def test_a_protected_page(memory: Mapping, prot: int, readable: bool, writable: bool) -> None:
    memory.protect(prot)
    facts = access(memory)
    assert facts.readable is facts.area_allows(PROT_READ) is readable
    assert facts.area_allows(PROT_WRITE) is writable


def test_a_hole(memory: Mapping) -> None:
    memory.unmap(at=PAGE_SIZE, size=PAGE_SIZE)
    facts = access(memory, GPA + PAGE_SIZE)
    assert (facts.area, facts.vma, facts.placement) == (None, None, None)
    assert facts.next_area
    assert facts.next_area.start == memory.hva + 2 * PAGE_SIZE
    assert not facts.readable
    assert not facts.area_allows(PROT_READ)
    assert not facts.replaced


def test_outside_the_memslots(memory: Mapping) -> None:
    facts = access(memory, known_slot=None)
    assert (facts.slot, facts.host_slot, facts.page, facts.area) == (None, None, 0, None)


def test_a_guest_memfd_slot_has_no_host_pages(memory: Mapping) -> None:
    slot = Slot(0, GPA, memory.size, memory.hva, guest_memfd=UndescribedMemfd())
    facts = access(memory, known_slot=slot)
    assert facts.slot is slot
    assert (facts.host_slot, facts.area) == (None, None)


def test_the_file_behind_a_page(file: int) -> None:
    with Mapping.of_file(file, SIZE) as memory:
        facts = access(memory, GPA + PAGE_SIZE)
        assert facts.placement
        assert (facts.placement.fd, facts.placement.offset) == (file, PAGE_SIZE)
        assert (facts.file, facts.private_mapping) == (BackingFile(SIZE, True, False), False)
        assert facts.file_offset == PAGE_SIZE
        os.ftruncate(file, 0)
        assert access(memory).file == BackingFile(0, False, False)


def test_anonymous_memory_has_no_file(memory: Mapping) -> None:
    assert access(memory).file is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for /proc/self/map_files")
def test_a_file_that_the_vmm_closed() -> None:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    with Mapping.of_file(fd, SIZE) as memory:
        os.close(fd)
        assert access(memory).file == BackingFile(SIZE, True, False)


def test_a_missing_page_that_a_userfaultfd_watches_is_not_read(memory: Mapping) -> None:
    """A read would wait for ever: nobody answers."""
    with watched_for_missing(memory) as uffd:
        assert not access(memory).readable
        uffd.zero(memory.hva)
        assert access(memory).readable
        assert access(memory, GPA + PAGE_SIZE).waits_for_userfaultfd


def test_the_huge_pages_behind_a_page(memory: Mapping) -> None:
    assert access(memory).hugetlb_pool is None


def test_a_replaced_mapping(memory: Mapping, file: int) -> None:
    assert not access(memory).replaced
    fixed_mmap.map_file(memory.hva, PAGE_SIZE, file)
    assert access(memory).replaced
    assert not access(memory, GPA + PAGE_SIZE).replaced


def test_a_replaced_file(file: int) -> None:
    with Mapping.of_file(file, SIZE) as memory:
        assert not access(memory).replaced
        fixed_mmap.map_file(memory.hva + PAGE_SIZE, PAGE_SIZE, file)  # another part of the file
        fixed_mmap.map_anonymous(memory.hva + 2 * PAGE_SIZE, PAGE_SIZE)
        replaced = [access(memory, GPA + n * PAGE_SIZE).replaced for n in range(4)]
    assert replaced == [False, True, True, False]


def test_the_name_of_the_memory_behind_a_page(memory: Mapping) -> None:
    assert access(memory).backing_name == f"HVA {memory.hva:#x}"
    assert access(memory).backing_failure is None


@pytest.mark.parametrize(
    ("flags", "path", "host", "rejected", "device"),
    [
        ((), "", ARM64_WITHOUT_FWB, None, False),
        (("pf",), "/dev/mem", ARM64_WITHOUT_FWB, None, True),
        (("pf",), "/dev/mem", ARM64_WITH_FWB, None, True),
        (("pf", "??"), "/dev/vfio/devices/vfio0", ARM64_WITHOUT_FWB, None, False),
        (("pf",), "/dev/vfio/devices/vfio0", ARM64_WITHOUT_FWB, True, False),
        (("pf",), "/dev/vfio/devices/vfio0", ARM64_WITH_FWB, None, False),
        (("pf",), "/dev/vfio/devices/vfio0", OLD_KERNEL, False, True),
    ],
    ids=[
        "ordinary memory",
        "PFNMAP",
        "PFNMAP with FWB",
        "vfio-pci",
        "cacheable BAR",
        "cacheable BAR with FWB",
        "BAR before VM_ALLOW_ANY_UNCACHED",
    ],
)
def test_device_in_stage2(
    flags: tuple[str, ...], path: str, host: Host, rejected: bool | None, device: bool
) -> None:
    preset = area(*flags, path=path)
    facts = PresetFacts(errno=errno.EFAULT, host=host, preset=preset, rejected=rejected)
    assert facts.device_in_stage2 is device


@pytest.mark.parametrize(
    ("path", "flags", "may_be"),
    [
        ("/dmabuf:", ("pf",), True),
        ("/dev/dri/card0", ("mm",), True),
        ("/dev/vfio/devices/vfio0", ("pf",), False),
        ("/memfd:guest (deleted)", (), False),
    ],
)
def test_memory_mapped_by_pfn_that_may_be_ram(
    path: str, flags: tuple[str, ...], may_be: bool
) -> None:
    preset = area(*flags, path=path)
    facts = PresetFacts(errno=errno.EFAULT, host=ARM64_WITH_FWB, preset=preset)
    assert facts.may_be_ram is may_be


def test_a_hole_is_not_device_memory() -> None:
    facts = PresetFacts(errno=errno.EFAULT, host=ARM64_WITHOUT_FWB, preset=None)
    assert not facts.device_in_stage2


def test_cacheability_is_not_known_without_a_vm(memory: Mapping) -> None:
    assert access(memory).rejected_as_cacheable is None
