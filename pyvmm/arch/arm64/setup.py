# SPDX-License-Identifier: GPL-2.0-only
"""arm64 as `pyvmm.arch.architecture.Architecture` wants it; guests start at EL1."""

from collections.abc import Hashable, Iterable, Mapping

from pyvmm.arch.arm64.cpu_features import Features
from pyvmm.arch.arm64.registers import read, write
from pyvmm.arch.guest_access import Peek, PhysicalMemory, RebuiltAccess
from pyvmm.arch.page_tables import MemoryType, Translation, Window
from pyvmm.kvm.system import System
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import KVM_CAP_ARM_INJECT_EXT_DABT
from pyvmm.uapi.kvm_arm64 import (
    KVM_ARM_PREFERRED_TARGET,
    KVM_ARM_VCPU_INIT,
    KVM_ARM_VCPU_POWER_OFF,
    KVM_ARM_VCPU_PSCI_0_2,
    KVM_SET_VCPU_EVENTS,
    kvm_vcpu_events,
    kvm_vcpu_init,
)

__all__ = [
    "ABORT_CAPABILITY",
    "CONSOLE",
    "CONSOLE_IS_PORT",
    "MEMORY_TYPES",
    "NAME",
    "PC",
    "emulate",
    "enter",
    "features",
    "fingerprint",
    "inject_abort",
    "prepare",
    "read",
    "reconstruct",
    "translate",
    "write",
]

NAME = "arm64"
PC = "pc"
ABORT_CAPABILITY: int | None = KVM_CAP_ARM_INJECT_EXT_DABT
CONSOLE = 0x0900_0000  # where QEMU's virt machine has its PL011
CONSOLE_IS_PORT = False
MEMORY_TYPES: Mapping[MemoryType, str] = {
    MemoryType.DEVICE: "device-nGnRE",
    MemoryType.NON_CACHEABLE: "normal-nc",
    MemoryType.WRITE_BACK: "normal-wb",
}

_PSTATE_DAIF = 0b1111 << 6
_PSTATE_EL1H = 0b0101


def prepare(system: System, vm: Vm, vcpu: Vcpu, index: int = 0) -> None:
    """``KVM_ARM_VCPU_INIT`` with this CPU's own target and PSCI 1.x.

    A vCPU other than the first is powered off until the guest calls PSCI ``CPU_ON`` for it.
    """
    init = kvm_vcpu_init()
    vm.ioctl(KVM_ARM_PREFERRED_TARGET, init)
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2
    if index:
        init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF
    vcpu.ioctl(KVM_ARM_VCPU_INIT, init)


def features(vcpu: Vcpu) -> Features | None:
    """What the CPU can do for memory, by the identification registers of a prepared vCPU."""
    return Features.of(lambda name: read(vcpu, name))


def translate(gpa: int, windows: Iterable[Window]) -> Translation:
    """Stage-1 page tables to lie at `gpa`; `ValueError` for windows that can't be mapped."""
    from pyvmm.arch.arm64 import stage1

    return stage1.translation(gpa, windows)


def enter(
    vcpu: Vcpu,
    pc: int,
    arguments: Iterable[int] = (),
    translation: Translation | None = None,
) -> None:
    """Start at `pc` at EL1h with interrupts masked and `arguments` in ``x0`` and up.

    Without a translation the MMU is off: all data is Device-nGnRnE, and `pc` is a GPA.
    """
    registers = dict(translation.registers) if translation else {}
    registers |= {f"x{n}": value for n, value in enumerate(arguments)}
    write(vcpu, registers | {"pc": pc, "pstate": _PSTATE_DAIF | _PSTATE_EL1H})


def reconstruct(vcpu: Vcpu, peek: Peek) -> RebuiltAccess:
    """What the instruction that the vCPU stands on touches; never fails for what it finds."""
    # The decoder is half of this floor, and a run without a fault has no use for it.
    from pyvmm.arch.arm64 import reconstruct

    return reconstruct.reconstruct(vcpu, peek)


def emulate(vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
    """Emulate the instruction at the PC against `memory`. Return why it failed, or None."""
    from pyvmm.arch.arm64 import emulate

    return emulate.emulate(vcpu, memory)


def inject_abort(vcpu: Vcpu) -> None:
    """Let the guest take a synchronous external abort for the data access that it stands on."""
    events = kvm_vcpu_events()
    events.exception.ext_dabt_pending = 1
    vcpu.ioctl(KVM_SET_VCPU_EVENTS, events)


_GENERAL = (*(f"x{n}" for n in range(31)), "sp_el0", "sp_el1", "pc", "pstate")


def fingerprint(vcpu: Vcpu) -> Hashable:
    """The general registers, which an instruction that completes in a loop changes."""
    return tuple(read(vcpu, name) for name in _GENERAL)
