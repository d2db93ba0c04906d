# SPDX-License-Identifier: GPL-2.0-only
"""The kernel is asked first; its errno must then be among what the explanation calls possible."""

import errno
import os

import pytest

from pyvmm.explain.finding import Finding, Mark
from pyvmm.explain.host import Host
from pyvmm.explain.memslots import could_be
from pyvmm.explain.slots import Slots, ToldSlot, UnseenMemfd
from pyvmm.kvm import Vm
from pyvmm.kvm.memslots import MemslotError
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES

HVA = 0x7F00_0000_0000


def marked(findings: list[Finding], mark: Mark) -> list[str]:
    return [finding.name for finding in findings if finding.mark == mark]


@pytest.mark.parametrize(
    ("gpa", "size", "cause"),
    [
        (0x1001, PAGE_SIZE, "gpa-unaligned"),
        (0x10000, PAGE_SIZE + 1, "size-unaligned"),
        ((1 << 64) - PAGE_SIZE, PAGE_SIZE * 2, "gpa-wraps"),
        (0x10000, 0, "no-such-slot"),
    ],
)
def test_what_the_kernel_rejects_is_known(
    host: Host, vm: Vm, gpa: int, size: int, cause: str
) -> None:
    with Mapping.anonymous(4 * PAGE_SIZE) as memory:
        with pytest.raises(MemslotError) as rejected:
            vm.memslots.add(gpa, memory, size=size, number=1)
        assert rejected.value.cause == cause
        slot = ToldSlot(1, gpa, size, memory.hva)
        found = could_be(host.having(Slots(known=True)), slot, rejected.value.errno, os.getpid())
    assert marked(found, "known") == [cause]


def test_the_kernel_asks_in_order(host: Host) -> None:
    found = could_be(host, ToldSlot(1, 0x1001, PAGE_SIZE, HVA), errno.EINVAL)
    [overruled] = [f for f in found if f.name == "changed-in-place"]
    assert overruled.mark == "impossible"
    assert "gpa-unaligned is asked about before" in overruled.why


def test_without_the_memslots_an_overlap_is_inferred(host: Host) -> None:
    new = ToldSlot(1, 0x10000, PAGE_SIZE, HVA)
    assert "overlap" in marked(could_be(host, new, errno.EEXIST), "inferred")


@pytest.mark.parametrize(("gpa", "mark"), [(0x10000, "known"), (0x20000, "impossible")])
def test_with_them_it_is_decided(host: Host, gpa: int, mark: Mark) -> None:
    told = host.having(Slots((ToldSlot(0, 0x10000, PAGE_SIZE, HVA),), known=True))
    found = could_be(told, ToldSlot(1, gpa, PAGE_SIZE, HVA), errno.EEXIST)
    assert "overlap" in marked(found, mark)


def test_a_guest_memfd_is_not_to_be_seen(host: Host) -> None:
    new = ToldSlot(1, 0x10000, PAGE_SIZE, HVA, KVM_MEM_GUEST_MEMFD, UnseenMemfd(None))
    inferred = marked(could_be(host, new, errno.EINVAL), "inferred")
    assert {"guest-memfd-of-another-vm", "guest-memfd-too-short"} <= set(inferred)


def test_an_errno_that_it_does_not_give(host: Host) -> None:
    assert could_be(host, ToldSlot(1, 0, PAGE_SIZE, HVA), errno.EXDEV) == []


@pytest.mark.needs_arch("x86_64")
def test_cacheability_concerns_arm64_alone(host: Host) -> None:
    found = could_be(host, ToldSlot(1, 0x10000, PAGE_SIZE, HVA), errno.EINVAL)
    assert CACHEABLE_PFNMAP in marked(found, "impossible")


@pytest.mark.needs_arch("aarch64")
def test_cacheability_is_what_remains(host: Host) -> None:
    found = could_be(host, ToldSlot(1, 0x10000, PAGE_SIZE, HVA), errno.EINVAL)
    supported = host.why_no_cacheable_pfnmap() is None
    assert CACHEABLE_PFNMAP in marked(found, "impossible" if supported else "inferred")


@pytest.mark.needs_arch("aarch64")
def test_the_dirty_log_of_ordinary_memory_is_no_reason(host: Host) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        new = ToldSlot(1, 0x10000, PAGE_SIZE, memory.hva, KVM_MEM_LOG_DIRTY_PAGES)
        unseen = could_be(host, new, errno.EINVAL)
        seen = could_be(host, new, errno.EINVAL, os.getpid())
    assert "dirty-log-of-pfnmap" in marked(unseen, "inferred")
    assert "dirty-log-of-pfnmap" in marked(seen, "impossible")
