# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.arch.page_tables import Window
from pyvmm.errors import PyvmmError
from pyvmm.kvm import Vm
from pyvmm.kvm.exits import Halt, Mmio, SystemEvent
from pyvmm.memory import Mapping
from pyvmm.testing import Mmio as AnMmio
from pyvmm.testing import SystemOff, Unexpected
from pyvmm.testing.guest import Guest

DEVICE, MEMORY = 0x9000000, 0x8000_0000
STORE = {"arm64": "str w1, [x0]", "x86_64": "mov %esi, (%rdi)"}
LOAD_AND_STORE = {
    "arm64": "ldr w4, [x0]; str w4, [x0, #4]",
    "x86_64": "mov (%rdi), %ebx; mov %ebx, 4(%rdi)",
}
SPIN = {"arm64": "b .", "x86_64": "jmp ."}
RESULT = {"arm64": "x4", "x86_64": "rbx"}


def test_arguments_and_write(guest: Guest) -> None:
    guest(STORE, DEVICE, 7).expects(AnMmio(gpa=DEVICE, write=True, value=7, size=4), SystemOff())


def test_read_returns_the_given_value(guest: Guest) -> None:
    run = guest(LOAD_AND_STORE, DEVICE)
    run.expects(AnMmio(gpa=DEVICE, write=False).gives(9), AnMmio(gpa=DEVICE + 4, value=9))
    assert run[RESULT[guest.arch.NAME]] == 9


def test_iteration_over_exits(guest: Guest) -> None:
    *accesses, end = guest(LOAD_AND_STORE, DEVICE)
    assert [(exit.gpa, exit.write) for exit in accesses if isinstance(exit, Mmio)] == [
        (DEVICE, False),
        (DEVICE + 4, True),
    ]
    assert isinstance(end, SystemEvent | Halt)


def test_memslot_is_mapped(vm: Vm, guest: Guest) -> None:
    with Mapping.anonymous(0x4000) as memory:
        vm.memslots.add(MEMORY, memory)
        guest(STORE, MEMORY + 0x2000, 7).expects(SystemOff())
        assert memory.read(0x2000, 4) == b"\7\0\0\0"


def test_window_replaces_the_default_mapping(guest: Guest) -> None:
    guest.windows.append(Window(0x5000_0000, DEVICE & ~0xFFF, 0x1000))
    guest(STORE, 0x5000_0000 + DEVICE % 0x1000, 7).expects(AnMmio(gpa=DEVICE), SystemOff())


def test_second_run_on_the_same_vcpu(guest: Guest) -> None:
    for value in (1, 2):
        guest(STORE, DEVICE, value).expects(AnMmio(value=value), SystemOff())


def test_unexpected_exit(guest: Guest) -> None:
    with pytest.raises(Unexpected, match=r"exit 1 is Mmio\(.* expected Mmio\(gpa=0x1000\)"):
        guest(STORE, DEVICE, 7).expects(AnMmio(gpa=0x1000))


def test_guest_without_exits(guest: Guest) -> None:
    with pytest.raises(Unexpected, match=r"did not exit within 0\.3 s"):
        guest(SPIN, seconds=0.3).expects(SystemOff())
    guest(STORE, DEVICE, 7).expects(AnMmio(), SystemOff())  # the vCPU is still usable


def test_invalid_assembly(guest: Guest) -> None:
    with pytest.raises(PyvmmError, match=r"guest\.s:1: "):
        guest("what is this")


def test_assembly_for_another_architecture(guest: Guest) -> None:
    with pytest.raises(pytest.skip.Exception, match="this guest is only for mips"):
        guest({"mips": "nop"})
