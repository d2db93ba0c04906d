# SPDX-License-Identifier: GPL-2.0-only
"""Judgements on another VMM's failures, compared with the kernel's answer where it has one."""

import errno
import os

import pytest

from pyvmm.errno_names import EHWPOISON
from pyvmm.explain.conditions import of_registration, of_run
from pyvmm.explain.process import slot_parts
from pyvmm.ioctl import Fd
from pyvmm.kvm import Vm
from pyvmm.kvm.memslots import MemslotError
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES
from pyvmm.why import Finding, Host, Mark, Slot
from pyvmm.why.registration import CACHEABLE_PFNMAP
from pyvmm.why.slot import UndescribedMemfd

HVA = 0x7F00_0000_0000
GPA = 0x4000_0000
NEW = Slot(1, 0x10000, PAGE_SIZE, HVA)


def marked(findings: list[Finding], mark: Mark) -> list[str]:
    return [finding.name for finding in findings if finding.mark == mark]


def rejected(
    host: Host,
    slot: Slot,
    number: int = errno.EINVAL,
    slots: tuple[Slot, ...] | None = None,
    pid: int | None = None,
) -> list[Finding]:
    return of_registration(host, slot, number, slots, pid)


@pytest.mark.parametrize(
    ("gpa", "size", "cause"),
    [
        (0x1001, PAGE_SIZE, "gpa-unaligned"),
        (0x10000, PAGE_SIZE + 1, "size-unaligned"),
        ((1 << 64) - PAGE_SIZE, PAGE_SIZE * 2, "gpa-wraps"),
        (0x10000, 0, "no-such-slot"),
    ],
)
def test_the_kernels_rejection_is_known(
    host: Host, vm: Vm, gpa: int, size: int, cause: str
) -> None:
    with Mapping.anonymous(4 * PAGE_SIZE) as memory:
        with pytest.raises(MemslotError) as failure:
            vm.memslots.add(gpa, memory, size=size, number=1)
        assert failure.value.cause == cause
        slot = Slot(1, gpa, size, memory.hva)
        found = rejected(host, slot, failure.value.errno, (), os.getpid())
    assert marked(found, "known") == [cause]


def test_conditions_after_a_known_one_are_impossible(host: Host) -> None:
    found = rejected(host, Slot(1, 0x1001, PAGE_SIZE, HVA))
    [later] = [f for f in found if f.name == "changed-in-place"]
    assert later.mark == "impossible"
    assert "KVM tests gpa-unaligned first" in later.why


@pytest.mark.parametrize(
    ("slots", "mark"),
    [
        (None, "inferred"),
        ((Slot(0, 0x10000, PAGE_SIZE, HVA),), "known"),
        ((Slot(0, 0x20000, PAGE_SIZE, HVA),), "impossible"),
    ],
    ids=["unknown slots", "overlapping", "disjoint"],
)
def test_overlap(host: Host, slots: tuple[Slot, ...] | None, mark: Mark) -> None:
    assert "overlap" in marked(rejected(host, NEW, errno.EEXIST, slots), mark)


def test_an_undecided_condition_names_the_absent_fact(host: Host) -> None:
    [overlap] = [f for f in rejected(host, NEW, errno.EEXIST) if f.name == "overlap"]
    assert overlap.needs == "the VM's memslots"


def test_guest_memfd_conditions_are_undecided(host: Host) -> None:
    new = Slot(1, 0x10000, PAGE_SIZE, HVA, KVM_MEM_GUEST_MEMFD, UndescribedMemfd())
    inferred = set(marked(rejected(host, new), "inferred"))
    assert {"guest-memfd-of-another-vm", "guest-memfd-too-short", "guest-memfd-bound"} <= inferred


def test_errno_of_no_condition(host: Host) -> None:
    assert rejected(host, Slot(1, 0, PAGE_SIZE, HVA), errno.EXDEV) == []


def test_cacheable_pfnmap_is_inferred_only_if_kvm_rejects_it(host: Host) -> None:
    mark: Mark = "inferred" if host.rejects_cacheable_pfnmap else "impossible"
    assert CACHEABLE_PFNMAP in marked(rejected(host, NEW), mark)


@pytest.mark.needs_arch("aarch64")
def test_dirty_log_of_anonymous_memory_is_impossible(host: Host) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        new = Slot(1, 0x10000, PAGE_SIZE, memory.hva, KVM_MEM_LOG_DIRTY_PAGES)
        unknown = rejected(host, new)
        inspected = rejected(host, new, pid=os.getpid())
    assert "dirty-log-of-pfnmap" in marked(unknown, "inferred")
    assert "dirty-log-of-pfnmap" in marked(inspected, "impossible")


def run_failed(host: Host, number: int) -> list[Finding]:
    return of_run(host, number, None, None, None)


@pytest.mark.parametrize(
    ("offset", "unmapped"), [(None, "inferred"), (0, "impossible"), (PAGE_SIZE, "known")]
)
def test_the_hole_behind_a_memslot_is_found(host: Host, offset: int | None, unmapped: Mark) -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        memory.unmap(at=PAGE_SIZE)
        slot = Slot(0, GPA, memory.size, memory.hva)
        parts = list(slot_parts(slot, os.getpid()))
        gpa = None if offset is None else GPA + offset
        found = of_run(host, errno.EFAULT, parts, gpa, os.getpid())
    marks = {finding.name: finding.mark for finding in found}
    assert marks["hva-unmapped"] == unmapped
    assert marks["hva-no-access"] == "impossible"


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize("gpa", [None, GPA], ids=["unknown GPA", "known GPA"])
def test_pfnmap_ram_may_have_a_read_only_pte(host: Host, drm_shmem: Fd, gpa: int | None) -> None:
    with Mapping.of_file(drm_shmem.fileno(), PAGE_SIZE) as memory:
        parts = list(slot_parts(Slot(0, GPA, memory.size, memory.hva), os.getpid()))
        found = of_run(host, errno.EFAULT, parts, gpa, os.getpid())
    [finding] = [each for each in found if each.name == "pfnmap-not-writable"]
    assert (finding.mark, finding.needs) == ("inferred", None)
    assert f"HVA {memory.hva:#x}" in finding.why


def test_a_gpa_outside_every_memslot(host: Host) -> None:
    assert marked(of_run(host, errno.EFAULT, [], GPA, os.getpid()), "known") == ["outside-memslots"]


def test_without_memslots_every_condition_is_undecided_or_impossible(host: Host) -> None:
    found = run_failed(host, errno.EFAULT)
    assert {finding.mark for finding in found} <= {"inferred", "impossible"}
    assert found[0].needs == "the VM's memslots and the GPA accessed"


@pytest.mark.parametrize(
    ("number", "names"),
    [
        (EHWPOISON, ["poison-marker", "hardware-poison"]),
        (errno.EINTR, ["signal"]),
        (errno.EIO, ["another-process", "vm-dead", "protected-not-swap-backed"]),
    ],
)
def test_an_errno_with_few_conditions(host: Host, number: int, names: list[str]) -> None:
    assert [finding.name for finding in run_failed(host, number)] == names


@pytest.mark.needs_arch("x86_64")
def test_conditions_of_arm64_are_impossible_on_x86(host: Host) -> None:
    assert {finding.mark for finding in run_failed(host, errno.ENOSYS)} == {"impossible"}
