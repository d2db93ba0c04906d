# SPDX-License-Identifier: GPL-2.0-only
"""What this floor needs of the KVM objects above it, and what it offers them in return."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Protocol

from pyvmm.arch.arm64.cpu_features import Features
from pyvmm.arch.guest_access import Peek, PhysicalMemory, RebuiltAccess
from pyvmm.arch.page_tables import MemoryType, Translation, Window
from pyvmm.kvm.system import System
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm


class Architecture(Protocol):
    """What a VMM does on every architecture; `pyvmm.arch.native` has the running machine's.

    Attributes:
        NAME: "arm64" or "x86_64".
        CONSOLE: where the guest finds its console: a GPA, or an I/O port.
        CONSOLE_IS_PORT: which of the two.
        MEMORY_TYPES: each memory type's proper name here, in lower case.
        PC: the name of the program counter.
        ABORT_CAPABILITY: the ``KVM_CAP_*`` that `inject_abort` needs; None where there is none.
    """

    NAME: str
    CONSOLE: int
    CONSOLE_IS_PORT: bool
    MEMORY_TYPES: Mapping[MemoryType, str]
    PC: str
    ABORT_CAPABILITY: int | None

    def prepare(self, system: System, vm: Vm, vcpu: Vcpu, index: int = 0) -> None:
        """Bring a fresh vCPU into being: its features, and whether it waits for vCPU 0."""

    def features(self, vcpu: Vcpu) -> Features | None:
        """What the CPU can do for memory; None where this architecture asks no such question."""

    def translate(self, gpa: int, windows: Iterable[Window]) -> Translation:
        """Page tables to lie at `gpa`; `ValueError` for windows that can't be mapped."""

    def enter(
        self,
        vcpu: Vcpu,
        pc: int,
        arguments: Iterable[int] = (),
        translation: Translation | None = None,
    ) -> None:
        """Let the vCPU's next run start at `pc` with `arguments` in its argument registers."""

    def read(self, vcpu: Vcpu, name: str) -> int:
        """A register by name; `KeyError` where there is none of that name."""

    def write(self, vcpu: Vcpu, values: Mapping[str, int]) -> None:
        """Set registers by name."""

    def reconstruct(self, vcpu: Vcpu, peek: Peek) -> RebuiltAccess:
        """What the instruction that the vCPU stands on touches; never fails for what it finds."""

    def emulate(self, vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
        """Carry that instruction out and step past it; returns why it can't be done, or None."""

    def inject_abort(self, vcpu: Vcpu) -> None:
        """Let the guest take an external abort for the data access that it stands on."""

    def fingerprint(self, vcpu: Vcpu) -> Hashable:
        """A value that two moments share only where no instruction completed between them."""
