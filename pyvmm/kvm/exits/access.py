# SPDX-License-Identifier: GPL-2.0-only
"""Accesses that no memslot backs: user space answers them."""

import ctypes
from dataclasses import dataclass
from typing import Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.native import kvm_run


@dataclass(frozen=True)
class Mmio(Exit):
    """The guest touched a GPA that no memslot backs (``KVM_EXIT_MMIO``).

    A read waits for `Vcpu.answer`; a write carries its `size` bytes, little-endian, in `value`.
    """

    reason = uapi.KVM_EXIT_MMIO
    gpa: int
    size: int
    write: bool
    value: int

    @classmethod
    def decode(cls, run: kvm_run) -> Self:
        mmio = run.mmio
        size = mmio.len
        if mmio.is_write:
            return cls(mmio.phys_addr, size, True, int.from_bytes(mmio.data[:size], "little"))
        return cls(mmio.phys_addr, size, False, 0)


@dataclass(frozen=True)
class Io(Exit):
    """The guest touched an x86 port (``KVM_EXIT_IO``): `count` items of `size` bytes.

    A read waits for `Vcpu.answer` with ``size * count`` bytes; a write carries them in `data`.
    """

    reason = uapi.KVM_EXIT_IO
    port: int
    size: int
    count: int
    write: bool
    data: bytes

    @classmethod
    def decode(cls, run: kvm_run) -> Self:
        io = run.io
        size, count = io.size, io.count
        if io.direction == uapi.KVM_EXIT_IO_OUT:
            data = ctypes.string_at(ctypes.addressof(run) + io.data_offset, size * count)
            return cls(io.port, size, count, True, data)
        return cls(io.port, size, count, False, b"")


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
