# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Callable

import pytest

from pyvmm.arch.page_tables import identity
from pyvmm.arch.x86_64 import cpu_modes, setup
from pyvmm.arch.x86_64.paging import translation
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.kvm.exits import Exit, Halt, Io
from pyvmm.memory import Mapping

pytestmark = pytest.mark.needs_arch("x86_64")

RAM_SIZE = 1 << 20
TABLES = 0x8_0000


def enter_long(vcpu: Vcpu, gpa: int, arguments: tuple[int, ...]) -> None:
    windows = [identity(0, RAM_SIZE, executable=True)]
    cpu_modes.enter_long(vcpu, gpa, arguments, translation(TABLES, windows))


def run(kvm: System, vm: Vm, vcpu: Vcpu) -> tuple[bytes, Exit]:
    text = b""
    while isinstance(leaving := vcpu.run(), Io):
        assert leaving.port == setup.CONSOLE
        text += leaving.data
    return text, leaving


@pytest.mark.parametrize(
    ("enter", "payload", "gpa", "text"),
    [
        (cpu_modes.enter_real, "hello_real", 0x1_0000, b"Hello from real mode\n"),
        (cpu_modes.enter_real, "hello_real", 0x1_2340, b"Hello from real mode\n"),
        (
            cpu_modes.enter_protected,
            "hello_protected",
            0x1_2345,
            b"Hello from 32-bit protected mode\n",
        ),
        (enter_long, "hello", 0x1_2345, b"Hello from x86_64\n"),
    ],
)
def test_a_guest_prints_and_halts(
    kvm: System,
    vm: Vm,
    vcpu: Vcpu,
    enter: Callable[[Vcpu, int, tuple[int, ...]], None],
    payload: str,
    gpa: int,
    text: bytes,
) -> None:
    setup.prepare(kvm, vm, vcpu)
    with Mapping.anonymous(RAM_SIZE) as ram:
        vm.memslots.add(0, ram)
        ram.write(gpa, Payload.builtin(payload, "x86_64").code)
        ram.write(TABLES, translation(TABLES, [identity(0, RAM_SIZE, executable=True)]).image)
        enter(vcpu, gpa, (setup.CONSOLE, 0))
        assert run(kvm, vm, vcpu) == (text, Halt())


@pytest.mark.parametrize("gpa", [0x8, 0x10_0000])
def test_real_mode_reaches_only_so_far(vcpu: Vcpu, gpa: int) -> None:
    with pytest.raises(ValueError, match="below 1 MiB"):
        cpu_modes.enter_real(vcpu, gpa)


def test_long_mode_needs_page_tables(vcpu: Vcpu) -> None:
    with pytest.raises(ValueError, match="needs page tables"):
        cpu_modes.enter_long(vcpu, 0)
