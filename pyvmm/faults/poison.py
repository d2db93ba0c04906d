# SPDX-License-Identifier: GPL-2.0-only
"""Poisoned memory: arm64's KVM tells of it with a signal and no exit.

When the guest touches a page that the hardware has given up on, KVM sends the vCPU's thread a
SIGBUS (BUS_MCEERR_AR, with the HVA) and would enter the guest again: kvm_send_hwpoison_signal in
arch/arm64/kvm/mmu.c. So the thread blocks SIGBUS, and ``KVM_SET_SIGNAL_MASK`` unblocks it inside
``KVM_RUN`` alone: that returns EINTR, the signal stays pending, and is read here.
"""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyvmm import libc
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.uapi.kvm import KVM_SET_SIGNAL_MASK, kvm_signal_mask

BUS_MCEERR_AR = 4  # asm-generic/siginfo.h: the access cannot go on without that memory

_MASK_SIZE = 8  # bytes of the kernel's sigset_t


class _Siginfo(ctypes.Structure):
    """The part of ``siginfo_t`` that a SIGBUS fills; Python's own leaves the address out."""

    _fields_ = (
        ("signo", ctypes.c_int),
        ("errno", ctypes.c_int),
        ("code", ctypes.c_int),
        ("address", ctypes.c_uint64),
        ("address_lsb", ctypes.c_short),
        ("padding", ctypes.c_byte * 100),
    )


@dataclass(frozen=True)
class Poisoned:
    """The guest touched poisoned memory: `size` bytes around `hva`, an address of this process."""

    kind = "hardware_poison"
    hva: int
    size: int


@contextmanager
def told(vcpu: Vcpu) -> Iterator[None]:
    """Within the block, this thread's runs of `vcpu` end with `Interrupted` at poisoned memory."""
    before = set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGBUS})))
    try:
        vcpu.ioctl(KVM_SET_SIGNAL_MASK, _mask(before - {signal.SIGBUS}))
        yield
    finally:
        taken()  # none is left pending, to end the process when it is unblocked
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def taken() -> Poisoned | None:
    """The poisoned memory that the last run of this thread's vCPU met, if it did."""
    wanted = (ctypes.c_uint64 * 16)(1 << signal.SIGBUS - 1)  # the C library's sigset_t
    info, no_time = _Siginfo(), (ctypes.c_long * 2)()
    try:
        libc.sigtimedwait(wanted, ctypes.byref(info), no_time)
    except OSError:  # EAGAIN: none is pending
        return None
    if info.code != BUS_MCEERR_AR:
        return None
    size = 1 << info.address_lsb
    return Poisoned(info.address & -size, size)


def _mask(signals: set[int]) -> kvm_signal_mask:
    bits = sum(1 << number - 1 for number in signals)
    mask = kvm_signal_mask.with_room(_MASK_SIZE)(len=_MASK_SIZE)
    mask.sigset[:] = list(bits.to_bytes(_MASK_SIZE, "little"))
    return mask
