# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.errno_names import EHWPOISON
from pyvmm.explain.backing import pieces
from pyvmm.explain.finding import Mark
from pyvmm.explain.host import Host
from pyvmm.explain.running import could_be
from pyvmm.explain.slots import ToldSlot
from pyvmm.kvm.rejection import CACHEABLE_PFNMAP
from pyvmm.memory import PAGE_SIZE, Mapping

GPA = 0x4000_0000


@pytest.mark.parametrize(
    ("offset", "unmapped"), [(None, "inferred"), (0, "impossible"), (PAGE_SIZE, "known")]
)
def test_a_hole_behind_a_memslot(host: Host, offset: int | None, unmapped: Mark) -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        memory.unmap(at=PAGE_SIZE)
        backing = list(pieces(ToldSlot(0, GPA, memory.size, memory.hva), "self", host))
        gpa = None if offset is None else GPA + offset
        found = could_be(host, errno.EFAULT, backing, gpa)
    marks = {finding.name: finding.mark for finding in found}
    assert marks["hva-unmapped"] == unmapped
    assert marks["hva-no-access"] == "impossible"


def test_without_the_memslots_nothing_is_known(host: Host) -> None:
    found = could_be(host, errno.EFAULT)
    assert {finding.mark for finding in found} <= {"inferred", "impossible"}
    assert "without its memslots" in found[0].why


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (EHWPOISON, "hardware-poison"),
        (errno.EINTR, "signal"),
        (errno.EIO, "another-process"),
    ],
)
def test_an_errno_with_one_condition(host: Host, number: int, name: str) -> None:
    assert [finding.name for finding in could_be(host, number)] == [name]


@pytest.mark.needs_arch("x86_64")
def test_what_arm64_alone_does(host: Host) -> None:
    assert {finding.mark for finding in could_be(host, errno.ENOSYS)} == {"impossible"}


@pytest.mark.needs_arch("aarch64")
def test_a_cacheable_mapping_is_to_blame_only_without_support(host: Host) -> None:
    marks = {finding.name: finding.mark for finding in could_be(host, errno.EFAULT)}
    supported = host.why_no_cacheable_pfnmap() is None
    assert marks[CACHEABLE_PFNMAP] == ("impossible" if supported else "inferred")
