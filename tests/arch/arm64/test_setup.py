# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.arch.arm64 import setup
from pyvmm.arch.page_tables import identity
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.kvm.exits import Mmio, SystemEvent
from pyvmm.memory import Mapping
from pyvmm.uapi.kvm import KVM_GET_MP_STATE, KVM_MP_STATE_STOPPED, kvm_mp_state

pytestmark = pytest.mark.needs_arch("aarch64")


def test_enter_sets_the_entry_state(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    setup.prepare(kvm, vm, vcpu)
    tables = setup.build_page_tables(0x4000_0000, [identity(0x4000_0000, 0x20_0000)])
    setup.enter(vcpu, 0x4010_0000, (1, 2, 3), tables)
    expect = {"pc": 0x4010_0000, "pstate": 0x3C5, "x0": 1, "x1": 2, "x2": 3, "x3": 0}
    assert {name: setup.read(vcpu, name) for name in expect} == expect
    actual = {name: setup.read(vcpu, name) for name in tables.registers}
    assert actual == tables.registers


def test_secondary_vcpus_are_powered_off(kvm: System, vm: Vm) -> None:
    first, second = vm.create_vcpu(0), vm.create_vcpu(1)
    setup.prepare(kvm, vm, first, 0)
    setup.prepare(kvm, vm, second, 1)
    states = [kvm_mp_state(), kvm_mp_state()]
    first.ioctl(KVM_GET_MP_STATE, states[0])
    second.ioctl(KVM_GET_MP_STATE, states[1])
    assert [s.mp_state == KVM_MP_STATE_STOPPED for s in states] == [False, True]


@pytest.mark.parametrize(
    ("features", "register", "bits"),
    [
        pytest.param(
            setup.SVE,
            *("ID_AA64PFR0_EL1", 0xF << 32),
            marks=pytest.mark.needs_cap("KVM_CAP_ARM_SVE"),
        ),
        pytest.param(
            setup.POINTER_AUTHENTICATION,
            *("ID_AA64ISAR1_EL1", 0xFF << 4),  # APA, API
            marks=pytest.mark.needs_cap("KVM_CAP_ARM_PTRAUTH_ADDRESS"),
        ),
        pytest.param(
            setup.PMU,
            *("ID_AA64DFR0_EL1", 0xF << 8),
            marks=pytest.mark.needs_cap("KVM_CAP_ARM_PMU_V3"),
        ),
    ],
    ids=["SVE", "pointer authentication", "PMU"],
)
def test_the_guest_sees_a_feature_only_if_it_is_enabled(
    kvm: System, vm: Vm, features: tuple[int, ...], register: str, bits: int
) -> None:
    plain = vm.create_vcpu()
    setup.prepare(kvm, vm, plain)
    assert not setup.read(plain, register) & bits
    with kvm.create_vm() as other:
        featured = other.create_vcpu()
        setup.prepare(kvm, other, featured, features=features)
        assert setup.read(featured, register) & bits


@pytest.mark.needs_cap("KVM_CAP_ARM_SVE")
def test_a_vcpu_with_sve_runs(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    setup.prepare(kvm, vm, vcpu, features=setup.SVE)
    with Mapping.anonymous(0x1_0000) as ram:
        vm.memslots.add(0x4000_0000, ram)
        ram.write(0, Payload.builtin("hello", "arm64").code)
        setup.enter(vcpu, 0x4000_0000, (setup.CONSOLE,))
        assert isinstance(vcpu.run(), Mmio)


def test_a_guest_prints_with_its_mmu_off(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    setup.prepare(kvm, vm, vcpu)
    with Mapping.anonymous(0x1_0000) as ram:
        vm.memslots.add(0x4000_0000, ram)
        ram.write(0, Payload.builtin("hello", "arm64").code)
        setup.enter(vcpu, 0x4000_0000, (setup.CONSOLE,))
        text = b""
        while isinstance(leaving := vcpu.run(), Mmio):
            assert (leaving.gpa, leaving.size) == (setup.CONSOLE, 1)
            text += bytes([leaving.value])
    assert text == b"Hello from arm64\n"
    assert isinstance(leaving, SystemEvent)
