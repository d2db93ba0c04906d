# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.arch.page_tables import identity
from pyvmm.arch.x86_64 import long_mode, setup
from pyvmm.arch.x86_64.paging import build_page_tables
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.kvm.exits import Halt, Io
from pyvmm.memory import Mapping

pytestmark = pytest.mark.needs_arch("x86_64")

RAM_SIZE = 1 << 20
TABLES = 0x8_0000


def test_a_guest_prints_and_halts(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    gpa, text = 0x1_2345, b""
    tables = build_page_tables(TABLES, [identity(0, RAM_SIZE, executable=True)])
    setup.prepare(kvm, vm, vcpu)
    with Mapping.anonymous(RAM_SIZE) as ram:
        vm.memslots.add(0, ram)
        ram.write(gpa, Payload.builtin("hello", "x86_64").code)
        ram.write(TABLES, tables.image)
        long_mode.enter(vcpu, gpa, (setup.CONSOLE, 0), tables)
        while isinstance(leaving := vcpu.run(), Io):
            assert leaving.port == setup.CONSOLE
            text += leaving.data
    assert (text, leaving) == (b"Hello from x86_64\n", Halt())


def test_long_mode_needs_page_tables(vcpu: Vcpu) -> None:
    with pytest.raises(ValueError, match="needs page tables"):
        long_mode.enter(vcpu, 0)
