# SPDX-License-Identifier: GPL-2.0-only
"""A program for a Linux guest that checks a BAR through its sysfs file.

It maps 64 KiB of the file that its first argument names, stores a pair of words in each 512 bytes,
loads them again, and exits with 0 if they are the same. With a second argument it then reads the
first word in an endless loop.
"""

import struct

_CODE = """
    f94003f4  // ldr x20, [sp]: argc
    92800c60  // mov x0, #-100: AT_FDCWD
    f9400be1  // ldr x1, [sp, #16]: argv[1]
    d2800042  // mov x2, #2: O_RDWR
    d2800708  // mov x8, #56: openat
    d4000001  // svc #0
    aa0003e4  // mov x4, x0
    d2800000  // mov x0, #0
    d2a00021  // mov x1, #0x10000
    d2800062  // mov x2, #3: PROT_READ | PROT_WRITE
    d2800023  // mov x3, #1: MAP_SHARED
    d2800005  // mov x5, #0
    d2801bc8  // mov x8, #222: mmap
    d4000001  // svc #0
    b7f802c0  // tbnz x0, #63, 4f
    aa0003f3  // mov x19, x0
    d2800009  // mov x9, #0
    8b09026a  // 1: add x10, x19, x9
    aa2903eb  // mvn x11, x9
    a9002d49  // stp x9, x11, [x10]
    91080129  // add x9, x9, #512
    3687ff89  // tbz x9, #16, 1b
    d2800009  // mov x9, #0
    8b09026a  // 2: add x10, x19, x9
    aa2903eb  // mvn x11, x9
    a940354c  // ldp x12, x13, [x10]
    eb09019f  // cmp x12, x9
    fa4b01a0  // ccmp x13, x11, #0, eq
    54000101  // b.ne 4f
    91080129  // add x9, x9, #512
    3687ff29  // tbz x9, #16, 2b
    f1000a9f  // cmp x20, #2
    d2800000  // mov x0, #0
    54000080  // b.eq 5f
    b9400260  // 3: ldr w0, [x19]
    17ffffff  // b 3b
    d2800020  // 4: mov x0, #1
    d2800ba8  // 5: mov x8, #93: exit
    d4000001  // svc #0
"""
_BASE = 0x40_0000
_HEADER = struct.Struct("<4s5B7x2HI3QI6H")
_SEGMENT = struct.Struct("<2I6Q")
_LOAD, _READ_EXECUTE = 1, 5


def program() -> bytes:
    """Return the program, an ELF executable for arm64 that needs no libraries."""
    code = b"".join(struct.pack("<I", int(line.split()[0], 16)) for line in _CODE.split("\n")[1:-1])
    start = _HEADER.size + _SEGMENT.size
    size = start + len(code)
    header = _HEADER.pack(
        *(b"\x7fELF", 2, 1, 1, 0, 0),  # 64 bits, little-endian
        *(2, 183, 1),  # ET_EXEC, EM_AARCH64
        *(_BASE + start, _HEADER.size, 0, 0),
        *(_HEADER.size, _SEGMENT.size, 1, 0, 0, 0),
    )
    segment = _SEGMENT.pack(_LOAD, _READ_EXECUTE, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
