# SPDX-License-Identifier: GPL-2.0-only
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyvmm.trace.event_text import event_line
from pyvmm.trace.events import Ioctl, Mapping, Process, Run
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


@pytest.mark.parametrize(
    ("close", "reported"),
    [
        ("vm.close()", False),
        ("cpu = vm.create_vcpu(0); os.close(vm.fileno())", True),
        ("cpu = vm.create_vcpu(0); os.close(vm.fileno()); os.close(cpu.fileno())", False),
        ("copy = os.dup(vm.fileno()); vm.close(); fcntl.ioctl(copy, 0xAE03, 0)", True),
        ("os.closerange(3, 100)", False),
        ("None if os.fork() else os._exit(0); os.wait()", True),
    ],
    ids=[
        "closed",
        "a vCPU keeps it",
        "the vCPU is closed, too",
        "dup",
        "close_range",
        "end of a process",
    ],
)
def test_memslots_of_a_closed_vm_are_ignored(trace: Traces, close: str, reported: bool) -> None:
    events = trace(f"{SLOT}    {close}; ram.unmap(at=0, size=PAGE_SIZE)\n    os._exit(0)")
    assert [e.call for e in events if isinstance(e, Mapping) and e.slots] == ["munmap"] * reported
    assert "vm1" in [e.text for e in events if isinstance(e, Process) and e.what == "close"]


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


@pytest.fixture(params=["-m32", "-m64"], ids=["32-bit program", "int 0x80"])
def int80_vmm(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a program that registers a memslot through i386 system calls."""
    if os.uname().machine != "x86_64":
        pytest.skip("KVM of arm64 has no 32-bit ioctls (CONFIG_KVM_COMPAT)")
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing: apt install gcc")
    source, program = Path(__file__).with_name("int80_vmm.c"), tmp_path / "vmm"
    options = [
        request.param,
        "-O1",
        "-w",
        "-mno-red-zone",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-fno-pie",
    ]
    subprocess.run(["gcc", *options, "-fomit-frame-pointer", "-o", program, source], check=True)
    if subprocess.run([program], check=False).returncode:
        pytest.skip("the kernel was built without 32-bit system calls (CONFIG_IA32_EMULATION)")
    return f"os.execv({str(program)!r}, ['vmm'])"


def test_i386_system_calls(trace: Traces, int80_vmm: str) -> None:
    events = trace(int80_vmm)
    ioctls = [(e.on, e.name, e.errno) for e in events if isinstance(e, Ioctl)]
    assert ioctls == [
        ("kvm", "KVM_GET_API_VERSION", None),
        ("kvm", "KVM_CREATE_VM", None),
        ("vm1", "KVM_SET_USER_MEMORY_REGION", None),
    ]
    [unmapped] = [e for e in events if isinstance(e, Mapping) and e.slots]
    assert (unmapped.call, unmapped.size, unmapped.slots[0]["gpa"]) == ("munmap", 0x1000, 0x10_0000)
    assert [e.text for e in events if isinstance(e, Process) and e.what == "close"] == ["vm1"]


def test_i386_system_calls_are_counted(trace: Traces, int80_vmm: str) -> None:
    events = trace(int80_vmm, detailed=False)
    assert next(e.name for e in events if isinstance(e, Ioctl)) == "KVM_GET_API_VERSION"
    [slot] = [e.argument for e in events if isinstance(e, Ioctl) and e.argument]
    assert (slot["guest_phys_addr"], slot["memory_size"]) == (0x10_0000, 0x2000)
    assert [e.text for e in events if isinstance(e, Process) and e.what == "close"] == ["vm1"]


def test_injection_into_i386_system_calls(trace: Traces, int80_vmm: str) -> None:
    with pytest.raises(AssertionError, match="the traced program failed"):
        trace(int80_vmm, "ioctl:KVM_GET_API_VERSION:return=13")


def test_invalid_descriptors_are_negative(trace: Traces) -> None:
    program = "for call in (0xAE03, 0xAE80): ctypes.CDLL(None).ioctl(-1, call, 0)"
    calls = [e for e in trace(program) if isinstance(e, Ioctl | Run)]
    assert [(e.on, e.fd, e.errno) for e in calls] == [("fd -1", -1, "EBADF")] * 2
