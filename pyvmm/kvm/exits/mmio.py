# SPDX-License-Identifier: GPL-2.0-only
"""Accesses that no memslot backs: user space answers them."""

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


# These two have slots and are not frozen: a guest makes them by the hundred thousand, and a frozen
# dataclass takes five times as long to make.


@dataclass
class Mmio(Exit):
    """The guest touched a GPA that no memslot backs (``KVM_EXIT_MMIO``).

    A read waits for `Vcpu.answer`; a write carries its `size` bytes, little-endian, in `value`.
    """

    __slots__ = ("gpa", "size", "value", "write")

    reason = uapi.KVM_EXIT_MMIO
    gpa: int
    size: int
    write: bool
    value: int

    @classmethod
    def decode(cls, shared: memoryview) -> Self:
        gpa, data, size, is_write = _read_mmio(shared)
        if is_write:
            return cls(gpa, size, True, data & ((1 << 8 * min(size, 8)) - 1))
        return cls(gpa, size, False, 0)


@dataclass
class Io(Exit):
    """The guest touched an x86 port (``KVM_EXIT_IO``): `count` items of `size` bytes.

    A read waits for `Vcpu.answer` with ``size * count`` bytes; a write carries them in `data`.
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
        direction, size, port, count, offset = _read_io(shared)
        if direction != _OUT:
            return cls(port, size, count, False, b"")
        if count > 1:
            return cls(port, size, count, True, bytes(shared[offset : offset + size * count]))
        [data] = _READ_ITEM[size](shared, offset)
        return cls(port, size, count, True, data)


@dataclass(frozen=True)
class ArmNisv(Exit):
    """An arm64 access outside every memslot whose syndrome does not say what it was.

    KVM cannot decode it (``ISV`` is 0) and leaves it to user space; `fault_ipa` is a GPA.
    """

    reason = uapi.KVM_EXIT_ARM_NISV
    payload = "arm_nisv"
    esr_iss: int
    fault_ipa: int


@dataclass(frozen=True)
class ArmLdst64b(Exit):
    """An arm64 64-byte single-copy atomic access outside every memslot."""

    reason = uapi.KVM_EXIT_ARM_LDST64B
    payload = "arm_nisv"
    esr_iss: int
    fault_ipa: int
