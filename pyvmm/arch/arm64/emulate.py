# SPDX-License-Identifier: GPL-2.0-only
"""Emulate the instruction at a vCPU's PC and advance the PC."""

from collections.abc import Iterator

from pyvmm.arch.arm64.a64.access import Access, Kind
from pyvmm.arch.arm64.a64.execute import ByteOrder, execute
from pyvmm.arch.arm64.registers import write
from pyvmm.arch.arm64.vcpu_state import CachedRegisters, InstructionError, StoppedVcpu, operation_of
from pyvmm.arch.arm64.walk import WalkFailure
from pyvmm.arch.guest_access import PhysicalMemory
from pyvmm.kvm.vcpu import Vcpu

_PAGE = 4096
_WIDEST = 8  # bytes in one access to a device


def emulate(vcpu: Vcpu, memory: PhysicalMemory) -> str | None:
    """Emulate the instruction at the PC against `memory`. Return why it failed, or None.

    Stores made before the failing access stay done, as on a CPU. Devices get accesses of 1, 2, 4
    or 8 bytes, aligned if the guest's access is aligned.
    """
    try:
        write(vcpu, changed_registers(StoppedVcpu(CachedRegisters(vcpu), memory.peek), memory))
    except InstructionError as error:
        return str(error)
    return None


def changed_registers(vcpu: StoppedVcpu, memory: PhysicalMemory) -> dict[str, int]:
    """Execute the instruction at the PC against `memory` and return the registers it changes.

    Raises `InstructionError`.
    """
    found = vcpu.translate_pc()
    if isinstance(found, WalkFailure):
        raise InstructionError("the instruction cannot be read from guest memory")
    operation = operation_of(vcpu.word(found.ipa))
    order: ByteOrder = "big" if vcpu.big_endian else "little"
    return execute(operation, vcpu.registers, _VirtualMemory(vcpu, memory), order=order)


class _VirtualMemory:
    """Guest memory by GVA: the `Memory` that `execute` works on."""

    def __init__(self, vcpu: StoppedVcpu, memory: PhysicalMemory) -> None:
        self._vcpu = vcpu
        self._memory = memory

    def read(self, va: int, size: int) -> bytes:
        data = b""
        for gpa, part in self._parts(va, size, Kind.READ):
            read = self._memory.read(gpa, part)
            if read is None:
                raise InstructionError(f"no readable memory or device is at GPA {gpa:#x}")
            data += read
        return data

    def write(self, va: int, data: bytes) -> None:
        done = 0
        for gpa, part in self._parts(va, len(data), Kind.WRITE):
            if not self._memory.write(gpa, data[done : done + part]):
                raise InstructionError(f"no writable memory or device is at GPA {gpa:#x}")
            done += part

    def _parts(self, va: int, size: int, kind: Kind) -> Iterator[tuple[int, int]]:
        """Split an access into accesses that a device accepts; yield GPA and size of each."""
        for page in Access(va, size, kind).pages(_PAGE):
            found = self._vcpu.translate(page.va)
            if isinstance(found, WalkFailure):
                raise InstructionError(f"stage 1: {found}")
            gpa, left = found.ipa, page.size
            while left:
                part = min(1 << left.bit_length() - 1, _WIDEST)
                yield gpa, part
                gpa, left = gpa + part, left - part
