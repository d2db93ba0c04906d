# SPDX-License-Identifier: GPL-2.0-only
"""The arm64 implementation of `pyvmm.arch.architecture.Architecture`: guests at EL1."""

from collections.abc import Collection, Hashable, Iterable, Mapping

from pyvmm.arch.arm64.cpu_features import CpuFeatures
from pyvmm.arch.arm64.registers import read, write
from pyvmm.arch.arm64.stage1 import build_page_tables
from pyvmm.arch.guest_access import Peek, PhysicalMemory, RebuiltAccess
from pyvmm.arch.page_tables import MemoryType, PageTables
from pyvmm.kvm.system import System
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import KVM_ARM_VCPU_FINALIZE, KVM_CAP_ARM_INJECT_EXT_DABT
from pyvmm.uapi.kvm_arm64 import (
    KVM_ARM_PREFERRED_TARGET,
    KVM_ARM_VCPU_INIT,
    KVM_ARM_VCPU_PMU_V3,
    KVM_ARM_VCPU_POWER_OFF,
    KVM_ARM_VCPU_PSCI_0_2,
    KVM_ARM_VCPU_PTRAUTH_ADDRESS,
    KVM_ARM_VCPU_PTRAUTH_GENERIC,
    KVM_ARM_VCPU_SVE,
    KVM_SET_VCPU_EVENTS,
    kvm_vcpu_events,
    kvm_vcpu_init,
)
from pyvmm.uapi.layout import Struct, at, s32

__all__ = [
    "ABORT_CAPABILITY",
    "CONSOLE",
    "CONSOLE_IS_PORT",
    "MEMORY_TYPES",
    "NAME",
    "PC",
    "PMU",
    "POINTER_AUTHENTICATION",
    "SVE",
    "build_page_tables",
    "emulate",
    "enter",
    "features",
    "fingerprint",
    "inject_abort",
    "prepare",
    "read",
    "reconstruct",
    "write",
]

NAME = "arm64"
PC = "pc"
ABORT_CAPABILITY: int | None = KVM_CAP_ARM_INJECT_EXT_DABT
CONSOLE = 0x0900_0000  # the GPA of the PL011 on QEMU's virt machine
CONSOLE_IS_PORT = False
# The names of `pyvmm.memory_types` as pyvmm's JSON spells them.
MEMORY_TYPES: Mapping[MemoryType, str] = {
    MemoryType.DEVICE: "device-nGnRE",
    MemoryType.NON_CACHEABLE: "normal-nc",
    MemoryType.WRITE_BACK: "normal-wb",
}

# Optional features of `prepare`.
SVE = (KVM_ARM_VCPU_SVE,)
POINTER_AUTHENTICATION = (KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC)
PMU = (KVM_ARM_VCPU_PMU_V3,)

_PSTATE_DAIF = 0b1111 << 6
_PSTATE_EL1H = 0b0101


class _Feature(Struct, size=4):
    number: s32 = at(0)


def prepare(
    system: System, vm: Vm, vcpu: Vcpu, index: int = 0, features: Collection[int] = ()
) -> None:
    """Initialize a vCPU with ``KVM_ARM_VCPU_INIT``: this CPU's preferred target and PSCI 1.x.

    Any vCPU but the first is powered off until the guest calls PSCI ``CPU_ON`` for it. `features`
    are further ``KVM_ARM_VCPU_*``, such as `SVE`, `POINTER_AUTHENTICATION` and `PMU`; the caller
    initializes the PMU after the GIC. Raises `IoctlError` (EINVAL: the host lacks a feature).
    """
    init = kvm_vcpu_init()
    vm.ioctl(KVM_ARM_PREFERRED_TARGET, init)
    for feature in (KVM_ARM_VCPU_PSCI_0_2, *features):
        init.features[feature // 32] |= 1 << feature % 32
    if index:
        init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF
    vcpu.ioctl(KVM_ARM_VCPU_INIT, init)
    if KVM_ARM_VCPU_SVE in features:  # KVM_RUN fails with EPERM without it
        vcpu.ioctl(KVM_ARM_VCPU_FINALIZE, _Feature(number=KVM_ARM_VCPU_SVE))


def features(vcpu: Vcpu) -> CpuFeatures | None:
    """Decode the memory features from the identification registers of an initialized vCPU."""
    return CpuFeatures.of(lambda name: read(vcpu, name))


def enter(
    vcpu: Vcpu, pc: int, arguments: Iterable[int] = (), tables: PageTables | None = None
) -> None:
    """Set the registers to start at `pc` in EL1h with `arguments` in ``x0`` and up.

    Interrupts are masked. Without `tables` the MMU is off: all data accesses are Device-nGnRnE,
    and `pc` is a GPA.
    """
    registers = dict(tables.registers) if tables else {}
    registers |= {f"x{n}": value for n, value in enumerate(arguments)}
    write(vcpu, registers | {"pc": pc, "pstate": _PSTATE_DAIF | _PSTATE_EL1H})


def reconstruct(vcpu: Vcpu, peek: Peek) -> RebuiltAccess:
    """Rebuild the access of the instruction at the PC. Never raises for the guest's state."""
    # Imported on demand: the decoder is half of this package, and a run without a fault does not
    # need it.
    from pyvmm.arch.arm64 import reconstruct

    return reconstruct.reconstruct(vcpu, peek)


def emulate(vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
    """Emulate the instruction at the PC against `memory`. Return why it failed, or None."""
    from pyvmm.arch.arm64 import emulate

    return emulate.emulate(vcpu, memory)


def inject_abort(vcpu: Vcpu) -> None:
    """Inject a synchronous external abort for the data access at the PC."""
    events = kvm_vcpu_events()
    events.exception.ext_dabt_pending = 1
    vcpu.ioctl(KVM_SET_VCPU_EVENTS, events)


_GENERAL = (*(f"x{n}" for n in range(31)), "sp_el0", "sp_el1", "pc", "pstate")


def fingerprint(vcpu: Vcpu) -> Hashable:
    """Return the general registers, which change when an instruction in a loop completes."""
    return tuple(read(vcpu, name) for name in _GENERAL)
