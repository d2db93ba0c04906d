# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.explain.backing import judge, pieces
from pyvmm.explain.host import Host
from pyvmm.explain.slots import ToldSlot
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.vma import Vma

GPA = 0x4000_0000


def test_a_slot_is_cut_where_its_vmas_are(host: Host) -> None:
    with Mapping.anonymous(5 * PAGE_SIZE) as memory:
        memory.protect(PROT_READ, at=PAGE_SIZE, size=PAGE_SIZE)
        memory.unmap(at=2 * PAGE_SIZE, size=PAGE_SIZE)
        memory.protect(PROT_NONE, at=4 * PAGE_SIZE)
        found = list(pieces(ToldSlot(0, GPA, memory.size, memory.hva), "self", host))
    assert [(p.gpa, p.size, [f.name for f in p.findings]) for p in found] == [
        (GPA, PAGE_SIZE, ["stage-2"]),
        (GPA + PAGE_SIZE, PAGE_SIZE, ["hva-read-only", "stage-2"]),
        (GPA + 2 * PAGE_SIZE, PAGE_SIZE, ["hva-unmapped"]),
        (GPA + 3 * PAGE_SIZE, PAGE_SIZE, ["stage-2"]),
        (GPA + 4 * PAGE_SIZE, PAGE_SIZE, ["hva-no-access"]),
    ]


def test_a_slot_within_one_vma(host: Host) -> None:
    with Mapping.anonymous(3 * PAGE_SIZE) as memory:
        [found] = pieces(ToldSlot(0, GPA, PAGE_SIZE, memory.hva + PAGE_SIZE), "self", host)
    assert (found.gpa, found.hva, found.size) == (GPA, memory.hva + PAGE_SIZE, PAGE_SIZE)


def test_a_slot_over_nothing(host: Host) -> None:
    [found] = pieces(ToldSlot(0, GPA, PAGE_SIZE, PAGE_SIZE), "self", host)
    assert [f.name for f in found.findings] == ["hva-unmapped"]


def test_a_read_only_slot_may_be_mapped_read_only(host: Host) -> None:
    with Mapping(PAGE_SIZE) as memory:
        memory.place_anonymous(prot=PROT_READ)
        flags = 2  # KVM_MEM_READONLY
        [found] = pieces(ToldSlot(0, GPA, PAGE_SIZE, memory.hva, flags), "self", host)
    assert [f.name for f in found.findings] == ["stage-2"]


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize(
    ("path", "flags", "says", "could_be_cacheable"),
    [
        ("/dev/mem", {"pf"}, "Device-nGnRE in stage 2, unless", True),
        ("/dev/vfio/devices/vfio0", {"pf", "??"}, "Normal-NC in stage 2, if", False),
        ("anon_inode:[vfio-device]", {"pf", "??"}, "Normal-NC in stage 2, if", False),
        ("/dev/vfio/devices/vfio0", {"pf"}, "by a driver of its own", True),
    ],
)
def test_device_memory_is_never_more_than_inferred(
    host: Host, path: str, flags: set[str], says: str, could_be_cacheable: bool
) -> None:
    vma = Vma(0x1000, 0x2000, "rw-s", 0, path, frozenset(flags))
    found = {finding.name: finding for finding in judge(vma, host)}
    assert found["stage-2"].mark == "inferred"
    assert says in found["stage-2"].why
    assert found["exec-from-device"].mark == "known"
    supported = host.why_no_cacheable_pfnmap() is None
    assert (CACHEABLE_PFNMAP in found) == (could_be_cacheable and not supported)
