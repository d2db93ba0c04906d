# SPDX-License-Identifier: GPL-2.0-only
"""The interface that every architecture implements."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Protocol

from pyvmm.arch.arm64.cpu_features import CpuFeatures
from pyvmm.arch.guest_access import Peek, PhysicalMemory, RebuiltAccess
from pyvmm.arch.page_tables import MemoryType, PageTables, Window
from pyvmm.kvm.system import System
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.kvm.vm import Vm


class Architecture(Protocol):
    """The architecture-specific part of a VMM; `pyvmm.arch.native` returns the host's.

    Attributes:
        NAME: "arm64" or "x86_64".
        CONSOLE: the GPA or I/O port of the guest's console.
        CONSOLE_IS_PORT: True if `CONSOLE` is an I/O port.
        MEMORY_TYPES: the native name of each memory type, as in pyvmm's JSON.
        PC: the name of the program counter.
        ABORT_CAPABILITY: the ``KVM_CAP_*`` that `inject_abort` needs, or None if the architecture
            has no such abort.
    """

    NAME: str
    CONSOLE: int
    CONSOLE_IS_PORT: bool
    MEMORY_TYPES: Mapping[MemoryType, str]
    PC: str
    ABORT_CAPABILITY: int | None

    def prepare(self, system: System, vm: Vm, vcpu: Vcpu, index: int = 0) -> None:
        """Initialize a new vCPU; one with an `index` other than 0 waits for the guest to start it.

        Raises `IoctlError`.
        """

    def features(self, vcpu: Vcpu) -> CpuFeatures | None:
        """Return the CPU's memory features, or None on an architecture that needs none."""

    def build_page_tables(self, gpa: int, windows: Iterable[Window]) -> PageTables:
        """Build the guest page tables that map `windows`, for GPA `gpa`.

        Raises `ValueError` for a window that cannot be mapped.
        """

    def enter(
        self,
        vcpu: Vcpu,
        pc: int,
        arguments: Iterable[int] = (),
        tables: PageTables | None = None,
    ) -> None:
        """Set the registers so that the next ``KVM_RUN`` starts at `pc`.

        `arguments` go to the argument registers of the C calling convention.
        """

    def read(self, vcpu: Vcpu, name: str) -> int:
        """Read a register; raise `KeyError` for an unknown name."""

    def write(self, vcpu: Vcpu, values: Mapping[str, int]) -> None:
        """Set registers by name; raise `KeyError` for an unknown name before any is set."""

    def reconstruct(self, vcpu: Vcpu, peek: Peek) -> RebuiltAccess:
        """Rebuild the access of the instruction at the PC. Never raises for the guest's state."""

    def emulate(self, vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
        """Emulate the instruction at the PC against `memory` and advance the PC.

        Return why it failed, or None.
        """

    def inject_abort(self, vcpu: Vcpu) -> None:
        """Inject an external abort for the data access at the PC."""

    def fingerprint(self, vcpu: Vcpu) -> Hashable:
        """Return a value that is equal for two moments only if no instruction completed between."""
