# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.errors import UsageError
from pyvmm.trace.events import Event, Ioctl, Mapping, Process, Run
from pyvmm.trace.filters import Filter, address_range

SLOT = Ioctl(
    *(0, 1, 1, 4, "vm1", "vm", "KVM_SET_USER_MEMORY_REGION", 0, 0),
    argument={"guest_phys_addr": 0x1000, "memory_size": 0x2000, "userspace_addr": 0x7F0000},
)
CAP = Ioctl(0, 1, 1, 3, "kvm", "system", "KVM_CHECK_EXTENSION", 1, 0)
MMIO = Run(0, 1, 1, 5, "vm1/vcpu0", "mmio", 0, payload={"gpa": 0x2FF8, "size": 8})
HLT = Run(0, 1, 1, 6, "vm1/vcpu1", "hlt", 0)
FLIP = Mapping(
    *(0, 1, 1, "munmap", 0x7F1000, 0x1000, "nothing"),
    slots=[{"vm": "vm1", "slot": 0, "gpa": 0x2000, "size": 0x1000}],
)
END = Process(0, 1, 1, "end", "status 0")
ALL: list[Event] = [SLOT, CAP, MMIO, HLT, FLIP, END]


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        pytest.param(Filter(), ALL, id="everything"),
        pytest.param(Filter(on=("vm1",)), [SLOT], id="an fd by label"),
        pytest.param(Filter(on=("vcpu", "system")), [CAP, MMIO, HLT], id="fds by kind"),
        pytest.param(Filter(on=("vm1/*",)), [MMIO, HLT], id="fds by pattern"),
        pytest.param(Filter(ioctls=("KVM_RUN",)), [MMIO, HLT], id="an ioctl"),
        pytest.param(Filter(ioctls=("KVM_SET_*", "KVM_CHECK_*")), [SLOT, CAP], id="ioctls"),
        pytest.param(Filter(exits=("hlt",)), [HLT], id="an exit"),
        pytest.param(Filter(addresses=((0x2FFF, 0x2FFF),)), [SLOT, MMIO, FLIP], id="a GPA"),
        pytest.param(Filter(addresses=((0x3000, 0x3FFF),)), [], id="the first GPA after"),
        pytest.param(Filter(addresses=((0x7F1800, 0x7F1800),)), [SLOT, FLIP], id="an HVA"),
    ],
)
def test_what_is_shown(wanted: Filter, shown: list[Event]) -> None:
    assert [event for event in ALL if wanted.wants(event)] == shown


@pytest.mark.parametrize(
    ("text", "expected"), [("0x1000", (0x1000, 0x1000)), ("4096-0x1fff", (0x1000, 0x1FFF))]
)
def test_a_range(text: str, expected: tuple[int, int]) -> None:
    assert address_range(text) == expected


@pytest.mark.parametrize("text", ["", "here", "1-2-3"])
def test_no_range(text: str) -> None:
    with pytest.raises(UsageError, match="an address is"):
        address_range(text)
