# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.event_text import event_line
from pyvmm.trace.events import Ioctl, Mapping, Run
from pyvmm.trace.views import in_memslot_timeline
from tests.trace.conftest import Traces

SLOT = """
    system = System.open(); vm = system.create_vm(0); ram = Mapping.anonymous(8 * PAGE_SIZE)
    vm.memslots.add(0x100000, ram)
"""


@pytest.mark.parametrize(
    ("change", "call", "what"),
    [
        ("ram.unmap(at=PAGE_SIZE, size=PAGE_SIZE)", "munmap", "nothing"),
        ("ram.protect(1, at=PAGE_SIZE, size=PAGE_SIZE)", "mprotect", "r--"),
        ("ram.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE)", "mmap", "rw- anonymous"),
        ("ram.advise(4, at=PAGE_SIZE, size=PAGE_SIZE)", "madvise", "MADV_DONTNEED"),
    ],
)
def test_mapping_change_under_a_memslot(trace: Traces, change: str, call: str, what: str) -> None:
    events = trace(f"{SLOT}    {change}\n    os._exit(0)")
    [event] = [e for e in events if isinstance(e, Mapping) and e.slots]
    assert (event.call, event.what) == (call, what)
    assert event.slots == [{"vm": "vm1", "slot": 0, "gpa": 0x10_1000, "size": 0x1000}]


def test_memory_outside_memslots_is_ignored(trace: Traces) -> None:
    events = trace(f"{SLOT}    Mapping.anonymous(PAGE_SIZE).close()\n    os._exit(0)")
    assert not [e for e in events if isinstance(e, Mapping) and e.slots]


def test_deleted_memslot_is_ignored(trace: Traces) -> None:
    events = trace(
        f"{SLOT}    [slot] = vm.memslots\n    vm.memslots.remove(slot)\n"
        "    ram.unmap(at=0, size=PAGE_SIZE)\n    os._exit(0)"
    )
    assert not [e for e in events if isinstance(e, Mapping) and e.slots]


def test_mapping_of_a_vcpu(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system, system.create_vm() as vm:
            vm.create_vcpu()
        """
    )
    [mapped] = [e for e in events if isinstance(e, Mapping)]
    assert mapped.what == "rw- vm1/vcpu0 from 0x0"


def test_memslot_timeline(trace: Traces) -> None:
    events = trace(f"{SLOT}    ram.unmap(at=0, size=PAGE_SIZE)\n    vm.close()\n    os._exit(0)")
    lines = [event_line(e) for e in events if in_memslot_timeline(e)]
    assert len(lines) == 3
    assert "memory_size=32 KiB (0x8000)" in lines[0]
    assert "over anonymous rw-p" in lines[0]
    assert "under vm1 slot 0 at GPA 0x100000, 4 KiB (0x1000); now nothing is mapped" in lines[1]
    assert lines[2].endswith("closes vm1")
    assert [e.on for e in events if isinstance(e, Ioctl) and e.mapped] == ["vm1"]


def test_guest_exits(trace: Traces) -> None:
    events = trace(
        """
        from tests.exits_vmm import exiting_machine
        with exiting_machine(5) as machine:
            machine.run()
        """
    )
    runs = [e for e in events if isinstance(e, Run)]
    assert sum(e.exit in ("io", "mmio") for e in runs) >= 5
    assert {e.on for e in runs} == {"vm1/vcpu0"}
    assert all(0 < e.seconds < 60 for e in runs)
