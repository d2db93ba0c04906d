# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import replace

import pytest

from pyvmm.trace.event_text import errno_text, event_line, format_members
from pyvmm.trace.events import Event, Ioctl
from pyvmm.trace.values import Values
from tests.trace.sample_events import CAP, END, FLIP, HLT, MMIO, SLOT


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            replace(CAP, argument={"argument": 81}, names={"argument.argument": "KVM_CAP_X"}),
            "kvm KVM_CHECK_EXTENSION KVM_CAP_X = 1",
        ),
        (
            SLOT,
            "vm1 KVM_SET_USER_MEMORY_REGION guest_phys_addr=0x1000 memory_size=8 KiB (0x2000) "
            "userspace_addr=0x7f0000 = 0",
        ),
        (
            Ioctl(0, 1, 1, 4, "vm1", "vm", "KVM_IRQFD", 0, 0, "EINVAL", why="so", injected="rule"),
            "vm1 KVM_IRQFD = EINVAL (Invalid argument): so [injected: rule]",
        ),
        (
            Ioctl(0, 1, 1, 3, "kvm", "system", "KVM_CREATE_VM", 4, 0, made="vm1"),
            "kvm KVM_CREATE_VM = 4 (vm1)",
        ),
        (MMIO, "vm1/vcpu0 KVM_RUN → mmio gpa=0x2ff8 size=8"),
        (
            replace(MMIO, before={"answer": "00ff"}, payload={"gpa": 16, "write": True}),
            "vm1/vcpu0 KVM_RUN answer=00ff → mmio gpa=0x10 write",
        ),
        (
            replace(HLT, exit="intr", errno="EINTR"),
            "vm1/vcpu1 KVM_RUN = EINTR (Interrupted system call) → intr",
        ),
        (
            FLIP,
            "munmap HVA 0x7f1000, 4 KiB (0x1000): nothing; under vm1 slot 0 at GPA 0x2000, "
            "4 KiB (0x1000); now nothing is mapped",
        ),
        (END, "--- process 1 ends, status 0"),
    ],
    ids=[
        *(
            "ioctl",
            "memslot",
            "failed and injected",
            "new descriptor",
            "mmio",
            "read data",
            "interrupted",
        ),
        *("mapping", "process"),
    ],
)
def test_event_line(event: Event, text: str) -> None:
    assert event_line(event) == f"  0.000000 1 {text}"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"a": 9, "b": 10, "c": -1}, "a=9 b=0xa c=-1"),
        ({"list": list(range(20))}, "list=[0, 1, 2, 3, 4, 5, 6, 7, … 12 more]"),
        ({"table": [{"x": 1}] * 5}, "table=[{x=1}, {x=1}, … 3 more]"),
        ({"table": [{"x": 0}] * 5}, "table=[5 zeros]"),
        ({"data": "ab" * 100}, f"data={'ab' * 32}…"),
    ],
    ids=["numbers", "list", "structs", "zeros", "data"],
)
def test_format_members(values: Values, text: str) -> None:
    assert format_members(values, {}, "") == text


def test_errno_text() -> None:
    assert errno_text("EFAULT") == "Bad address"
    assert errno_text("EHWPOISON") == "Memory page has hardware error"
    assert errno_text("999") == "Unknown error 999"
