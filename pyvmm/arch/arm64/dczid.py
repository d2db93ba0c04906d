# SPDX-License-Identifier: GPL-2.0-only
"""DCZID_EL0 of the host CPU, which is also the vCPU's."""

import ctypes
import mmap
from functools import cache

from pyvmm import libc

_MRS_X0_DCZID_EL0 = 0xD53B00E0
_RET = 0xD65F03C0


@cache
def dczid_el0() -> int:
    """Read DCZID_EL0, which has the block size of DC ZVA.

    KVM neither traps it nor has a one-reg id for it, so a vCPU has the host's value. EL0 can read
    it with MRS. Raises `OSError` if this process may not make a page executable.
    """
    with mmap.mmap(-1, mmap.PAGESIZE) as code:
        code.write(b"".join(word.to_bytes(4, "little") for word in (_MRS_X0_DCZID_EL0, _RET)))
        start = ctypes.addressof(ctypes.c_char.from_buffer(code))
        executable = mmap.PROT_READ | mmap.PROT_EXEC
        # The kernel syncs the instruction cache in __sync_icache_dcache().
        libc.mprotect(start, mmap.PAGESIZE, executable)
        value: int = ctypes.CFUNCTYPE(ctypes.c_uint64)(start)()
        return value
