# SPDX-License-Identifier: GPL-2.0-only
"""What this process's own CPU says of itself, where KVM does not say it for a vCPU."""

import ctypes
import mmap
from functools import cache

from pyvmm import libc

_MRS_X0_DCZID_EL0 = 0xD53B00E0
_RET = 0xD65F03C0


@cache
def dczid_el0() -> int:
    """DCZID_EL0: which block DC ZVA zeroes.

    KVM neither traps it nor has a register id for it, so a vCPU's is the host's. It is readable
    at EL0, by an instruction. Raises `OSError` where this process may not run code of its own.
    """
    with mmap.mmap(-1, mmap.PAGESIZE) as code:
        code.write(b"".join(word.to_bytes(4, "little") for word in (_MRS_X0_DCZID_EL0, _RET)))
        start = ctypes.addressof(ctypes.c_char.from_buffer(code))
        executable = mmap.PROT_READ | mmap.PROT_EXEC
        # The kernel makes the instructions visible to fetches when it makes the page executable.
        libc.mprotect(start, mmap.PAGESIZE, executable)
        value: int = ctypes.CFUNCTYPE(ctypes.c_uint64)(start)()
        return value
