# SPDX-License-Identifier: GPL-2.0-only
"""An instruction as an assembler would write it, for people to read."""

import re

from pyvmm.arch.arm64.a64.access import INSTRUCTION_SIZE
from pyvmm.arch.arm64.bits import WORD, signed
from pyvmm.errors import LackingError

# Capstone 5 prints a negative post-index as the unsigned 64-bit number.
_NEGATIVE = re.compile(r"(?<=\], )#0x(f{8}[0-9a-f]{8})")


def disassemble(word: int, pc: int = 0) -> str:
    """Such as ``ldp x0, x1, [x2], #0x10``; ``.inst 0x…`` where it is not known as one.

    `pc` is the guest virtual address that relative operands count from.
    Raises `LackingError` where capstone is not installed.
    """
    try:
        import capstone
    except ImportError:
        raise LackingError(
            "printing an instruction needs the package capstone: pip install 'pyvmm[decode]'"
        ) from None
    # Capstone 6 calls the architecture by its proper name; the number behind it stays.
    arch = getattr(capstone, "CS_ARCH_AARCH64", None) or capstone.CS_ARCH_ARM64
    code = (word & WORD).to_bytes(INSTRUCTION_SIZE, "little")
    reader = capstone.Cs(arch, capstone.CS_MODE_LITTLE_ENDIAN)
    for _, _, mnemonic, operands in reader.disasm_lite(code, pc):
        readable = _NEGATIVE.sub(lambda found: f"#{signed(int(found[1], 16), 64):#x}", operands)
        return f"{mnemonic} {readable}".rstrip()
    return f".inst {word & WORD:#010x}"
