# SPDX-License-Identifier: GPL-2.0-only
"""Poisoned memory: KVM on arm64 reports it with a signal instead of an exit.

When the guest accesses a hardware-poisoned page, KVM sends the vCPU's thread SIGBUS (BUS_MCEERR_AR,
with the HVA) and re-enters the guest: kvm_send_hwpoison_signal in arch/arm64/kvm/mmu.c. The thread
therefore blocks SIGBUS, and ``KVM_SET_SIGNAL_MASK`` unblocks it inside ``KVM_RUN`` only: the ioctl
returns EINTR and the signal stays pending until `pending` reads it.
"""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyvmm import libc
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.uapi.kvm import KVM_SET_SIGNAL_MASK, kvm_signal_mask

# asm-generic/siginfo.h
BUS_MCEERR_AR = 4  # action required: an access cannot complete without that memory
BUS_MCEERR_AO = 5  # action optional: no access has consumed the error

_MASK_SIZE = 8  # bytes of the kernel's sigset_t


class _Siginfo(ctypes.Structure):
    """The members of ``siginfo_t`` for SIGBUS; Python's version lacks the address."""

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
    """Poisoned memory: `size` bytes (a page or more) at `hva`.

    Attributes:
        consumed: the guest accessed it (BUS_MCEERR_AR). Otherwise the kernel found the error
            before any access, and sends BUS_MCEERR_AO to a process that asked for it
            (PR_MCE_KILL_EARLY; kill_proc in mm/memory-failure.c).
    """

    kind = "hardware_poison"
    hva: int
    size: int
    consumed: bool = True


@contextmanager
def reporting(vcpu: Vcpu) -> Iterator[None]:
    """Make ``KVM_RUN`` in this thread return `Interrupted` on poisoned memory, within the block.

    Raises `IoctlError` if ``KVM_SET_SIGNAL_MASK`` fails.
    """
    before = set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGBUS})))
    try:
        vcpu.ioctl(KVM_SET_SIGNAL_MASK, _mask(before - {signal.SIGBUS}))
        yield
    finally:
        pending()  # a SIGBUS still pending would kill the process once unblocked
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pending() -> Poisoned | None:
    """Consume a pending SIGBUS; return the poisoned memory it reports, or None."""
    wanted = (ctypes.c_uint64 * 16)(1 << signal.SIGBUS - 1)  # the C library's sigset_t
    info, no_time = _Siginfo(), (ctypes.c_long * 2)()
    try:
        libc.sigtimedwait(wanted, ctypes.byref(info), no_time)
    except OSError:  # EAGAIN: no SIGBUS is pending
        return None
    if info.code not in (BUS_MCEERR_AR, BUS_MCEERR_AO):
        return None
    size = 1 << info.address_lsb
    return Poisoned(info.address & -size, size, consumed=info.code == BUS_MCEERR_AR)


def _mask(signals: set[int]) -> kvm_signal_mask:
    bits = sum(1 << number - 1 for number in signals)
    mask = kvm_signal_mask.with_room(_MASK_SIZE)(len=_MASK_SIZE)
    mask.sigset[:] = list(bits.to_bytes(_MASK_SIZE, "little"))
    return mask
