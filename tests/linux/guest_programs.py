# SPDX-License-Identifier: GPL-2.0-only
"""Programs for a Linux guest, which map the file that their first argument names.

check_bar    store a pair of words in each 512 bytes of 64 KiB, load them again, and exit with 0 if
             they are the same
write_junk   write 5,000 random words to random places of a BAR of 16 KiB; with a second argument,
             in /dev/mem, to the config space of the function in slot 1
"""

import struct

_CHECK_BAR = """
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
    b7f80260  // tbnz x0, #63, 4f
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
    540000a1  // b.ne 4f
    91080129  // add x9, x9, #512
    3687ff29  // tbz x9, #16, 2b
    d2800000  // mov x0, #0
    14000002  // b 5f
    d2800020  // 4: mov x0, #1
    d2800ba8  // 5: mov x8, #93: exit
    d4000001  // svc #0
"""
_WRITE_JUNK = """
    f94003f4  // ldr x20, [sp]: argc
    92800c60  // mov x0, #-100: AT_FDCWD
    f9400be1  // ldr x1, [sp, #16]: argv[1]
    d2800042  // mov x2, #2: O_RDWR
    d2800708  // mov x8, #56: openat
    d4000001  // svc #0
    aa0003e4  // mov x4, x0
    d2880015  // mov x21, #0x4000
    d2800016  // mov x22, #0
    f1000a9f  // cmp x20, #2
    54000080  // b.eq 1f
    d2820015  // mov x21, #0x1000
    d2900016  // mov x22, #0x8000
    f2a7e016  // movk x22, #0x3f00, lsl #16: ECAM
    d2800000  // 1: mov x0, #0
    aa1503e1  // mov x1, x21
    d2800062  // mov x2, #3: PROT_READ | PROT_WRITE
    d2800023  // mov x3, #1: MAP_SHARED
    aa1603e5  // mov x5, x22
    d2801bc8  // mov x8, #222: mmap
    d4000001  // svc #0
    b7f801c0  // tbnz x0, #63, 3f
    d10012b5  // sub x21, x21, #4
    d2827117  // mov x23, #5000
    d2800038  // mov x24, #1
    ca183718  // 2: eor x24, x24, x24, lsl #13
    ca581f18  // eor x24, x24, x24, lsr #7
    ca184718  // eor x24, x24, x24, lsl #17
    8a150319  // and x25, x24, x21
    d354ff1a  // lsr x26, x24, #20
    b839681a  // str w26, [x0, x25]
    d10006f7  // sub x23, x23, #1
    b5ffff37  // cbnz x23, 2b
    d2800000  // mov x0, #0
    14000002  // b 4f
    d2800020  // 3: mov x0, #1
    d2800ba8  // 4: mov x8, #93: exit
    d4000001  // svc #0
"""
_BASE = 0x40_0000
_HEADER = struct.Struct("<4s5B7x2HI3QI6H")
_SEGMENT = struct.Struct("<2I6Q")
_LOAD, _READ_EXECUTE = 1, 5


def check_bar() -> bytes:
    """Return ``check_bar`` as an ELF executable."""
    return _executable(_CHECK_BAR)


def write_junk() -> bytes:
    """Return ``write_junk`` as an ELF executable."""
    return _executable(_WRITE_JUNK)


def _executable(text: str) -> bytes:
    words = [int(line.split()[0], 16) for line in text.strip().splitlines()]
    code = struct.pack(f"<{len(words)}I", *words)
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
