# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.arch.x86_64 import registers
from pyvmm.kvm import Vcpu


def test_names_are_unique() -> None:
    assert len(set(registers.NAMES)) == len(registers.NAMES)


@pytest.mark.needs_arch("x86_64")
@pytest.mark.parametrize("name", registers.NAMES)
def test_every_register_can_be_read_and_written_back(vcpu: Vcpu, name: str) -> None:
    value = registers.read(vcpu, name)
    registers.write(vcpu, {name: value})
    assert registers.read(vcpu, name) == value


@pytest.mark.needs_arch("x86_64")
def test_one_write_sets_general_system_and_model_specific_registers(vcpu: Vcpu) -> None:
    values = {"rbx": 0x1234, "cr2": 0x5000, "cs.base": 0x10000, "gdt.limit": 0x17, "pat": 0x0106}
    registers.write(vcpu, values)
    assert {name: registers.read(vcpu, name) for name in values} == values


@pytest.mark.needs_arch("x86_64")
def test_an_unknown_name_is_a_key_error(vcpu: Vcpu) -> None:
    with pytest.raises(KeyError, match="x0"):
        registers.read(vcpu, "x0")


@pytest.mark.needs_arch("x86_64")
def test_an_unknown_name_leaves_all_registers_unchanged(vcpu: Vcpu) -> None:
    with pytest.raises(KeyError, match=r"cs\.colour"):
        registers.write(vcpu, {"rbx": 0x1234, "cs.colour": 1})
    assert registers.read(vcpu, "rbx") == 0


@pytest.mark.needs_arch("x86_64")
def test_a_rejected_msr_value_is_a_value_error(vcpu: Vcpu) -> None:
    with pytest.raises(ValueError, match="KVM rejects 0x9000000000000000 for MSR"):
        registers.write(vcpu, {"lstar": 0x9000_0000_0000_0000})  # not canonical
