# SPDX-License-Identifier: GPL-2.0-only
"""MMIO and port I/O: accesses that user space emulates."""

import struct
from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit, unpacker
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.kvm import kvm_run_io, kvm_run_mmio

_read_mmio = unpacker("mmio", kvm_run_mmio, "phys_addr", "data", "len", "is_write")
_OUT = uapi.KVM_EXIT_IO_OUT
_READ_ITEM = {size: struct.Struct(f"{size}s").unpack_from for size in (1, 2, 4)}
_read_io = unpacker("io", kvm_run_io, "direction", "size", "port", "count", "data_offset")


# `Mmio` and `Io` are the frequent exits. They have slots and are not frozen: creating a frozen
# dataclass takes five times as long.


@dataclass
class Mmio(Exit):
    """An access to a GPA without a memslot, or a write to a read-only one (``KVM_EXIT_MMIO``).

    A read needs `Vcpu.answer`. `value` of a write holds its `size` bytes, little-endian.
    """

    __slots__ = ("gpa", "size", "value", "write")

    reason = uapi.KVM_EXIT_MMIO
    gpa: int
    size: int
    write: bool
    value: int

    @classmethod
    def decode(cls, shared: memoryview) -> Self:
        """Decode with one unpack, without ctypes."""
        gpa, data, size, is_write = _read_mmio(shared)
        if is_write:
            return cls(gpa, size, True, data & ((1 << 8 * min(size, 8)) - 1))
        return cls(gpa, size, False, 0)


@dataclass
class Io(Exit):
    """An access to an x86 I/O port (``KVM_EXIT_IO``): `count` items of `size` bytes.

    A read needs `Vcpu.answer` with ``size * count`` bytes. A write has them in `data`.
    """

    __slots__ = ("count", "data", "port", "size", "write")

    reason = uapi.KVM_EXIT_IO
    port: int
    size: int
    count: int
    write: bool
    data: bytes

    @classmethod
    def decode(cls, shared: memoryview) -> Self:
        """Decode with one unpack, without ctypes; copy the data of a write."""
        direction, size, port, count, offset = _read_io(shared)
        if direction != _OUT:
            return cls(port, size, count, False, b"")
        if count == 1:
            try:
                [data] = _READ_ITEM[size](shared, offset)
                return cls(port, size, count, True, data)
            except (KeyError, struct.error):  # a traced VMM changed the page
                pass
        return cls(port, size, count, True, bytes(shared[offset : offset + size * count]))


@dataclass(frozen=True)
class ArmNisv(Exit):
    """An arm64 access outside all memslots without a valid syndrome (``KVM_EXIT_ARM_NISV``).

    ``ESR_EL2.ISV`` is 0, so KVM cannot decode the access. `fault_ipa` is its GPA.
    """

    reason = uapi.KVM_EXIT_ARM_NISV
    payload = "arm_nisv"
    esr_iss: int
    fault_ipa: int


@dataclass(frozen=True)
class ArmLdst64b(Exit):
    """An arm64 64-byte single-copy atomic access outside all memslots."""

    reason = uapi.KVM_EXIT_ARM_LDST64B
    payload = "arm_nisv"
    esr_iss: int
    fault_ipa: int
