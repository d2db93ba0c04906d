# SPDX-License-Identifier: GPL-2.0-only
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.arm64 import registers, setup
from pyvmm.arch.arm64.registers import IDS, id_of, name_of, sysreg_encoding, sysreg_id
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.uapi import kvm_arm64 as uapi


@pytest.mark.parametrize(
    ("name", "register"),
    [
        ("x0", 0x6030_0000_0010_0000),
        ("pc", 0x6030_0000_0010_0040),
        ("v31", 0x6040_0000_0010_00D0),
        ("fpcr", 0x6020_0000_0010_00D5),
        ("ID_AA64MMFR2_EL1", 0x6030_0000_0013_C03A),
        ("CTR_EL0", 0x6030_0000_0013_D801),
        ("CNTV_CVAL_EL0", uapi.KVM_REG_ARM_TIMER_CVAL),
        ("CNTVCT_EL0", uapi.KVM_REG_ARM_TIMER_CNT),
        ("CNTV_CTL_EL0", uapi.KVM_REG_ARM_TIMER_CTL),
        ("CNTP_CVAL_EL0", uapi.KVM_REG_ARM_PTIMER_CVAL),
        ("sys(3,0,2,5,7)", 0x6030_0000_0013_C12F),
    ],
)
def test_a_name_and_its_id(name: str, register: int) -> None:
    assert id_of(name) == register
    assert name_of(register) == name


@pytest.mark.parametrize(
    ("register", "name"),
    [
        (0x6020_0000_0011_0002, "CCSIDR_EL1[2]"),
        (uapi.KVM_REG_ARM_PSCI_VERSION, "fw[0]"),
        (uapi.KVM_REG_ARM_VENDOR_HYP_BMAP, "fw_features[2]"),
        (0x6080_0000_0015_0000, "sve[0]"),
        (0x6030_0000_0017_0000, "0x6030000000170000"),
    ],
)
def test_numbered_and_unknown_ids(register: int, name: str) -> None:
    assert name_of(register) == name


@pytest.mark.parametrize("name", ["", "x31", "ttbr0_el1", "sys(1,2)"])
def test_an_unknown_name_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        id_of(name)


encodings = st.tuples(
    *(st.integers(0, (1 << width) - 1) for width in (2, 3, 4, 4, 3)),
)


@given(encodings)
def test_every_encoding_has_a_name_with_the_same_id(encoding: tuple[int, ...]) -> None:
    register = sysreg_id(*encoding)
    assert sysreg_encoding(register) == encoding
    assert id_of(name_of(register)) == register


@pytest.fixture
def prepared(kvm: System, vm: Vm, vcpu: Vcpu) -> Vcpu:
    setup.prepare(kvm, vm, vcpu)
    return vcpu


@pytest.mark.needs_arch("aarch64")
def test_kvm_lists_every_core_register(prepared: Vcpu) -> None:
    core = {register for name, register in IDS.items() if name.islower()}
    assert core <= set(prepared.reg_list())


@pytest.mark.needs_arch("aarch64")
def test_every_register_that_kvm_lists_has_its_own_name(prepared: Vcpu) -> None:
    listed = prepared.reg_list()
    assert len({name_of(register) for register in listed}) == len(listed)


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize("name", ["x0", "x30", "sp_el0", "sp_el1", "pc", "elr_el1", "v7", "fpsr",
                                  "TTBR0_EL1", "MAIR_EL1", "VBAR_EL1", "FAR_EL1"])  # fmt: skip
def test_a_written_register_reads_back(prepared: Vcpu, name: str) -> None:
    before = registers.read(prepared, name)
    registers.write(prepared, {name: 0x1000})
    assert before != 0x1000
    assert registers.read(prepared, name) == 0x1000


@pytest.mark.needs_arch("aarch64")
def test_a_vector_register_is_128_bits_wide(prepared: Vcpu) -> None:
    value = 0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF
    registers.write(prepared, {"v31": value})
    assert registers.read(prepared, "v31") == value


@pytest.mark.needs_arch("aarch64")
def test_the_identification_registers_are_readable(prepared: Vcpu) -> None:
    assert registers.read(prepared, "ID_AA64PFR0_EL1") & 0xF in (1, 2)  # EL0 has AArch64
    assert registers.read(prepared, "MPIDR_EL1") >> 31 & 1 == 1  # RES1
