# SPDX-License-Identifier: GPL-2.0-only
"""Disassemble an instruction for people to read."""

import re

from pyvmm.arch.arm64.a64.access import INSTRUCTION_SIZE
from pyvmm.arch.arm64.bits import WORD, signed
from pyvmm.errors import LackingError

# Capstone 5 prints a negative post-index as the unsigned 64-bit number.
_NEGATIVE = re.compile(r"(?<=\], )#0x(f{8}[0-9a-f]{8})")


def disassemble(word: int, pc: int = 0) -> str:
    """Return the assembly, such as ``ldp x0, x1, [x2], #0x10``, or ``.inst 0x…`` if unknown.

    `pc` is the GVA of the instruction, for relative operands.
    Raises `LackingError` if capstone is not installed.
    """
    try:
        import capstone
    except ImportError:
        raise LackingError(
            "printing an instruction needs the package capstone: pip install 'pyvmm[decode]'"
        ) from None
    # Capstone 6 renames CS_ARCH_ARM64 to CS_ARCH_AARCH64, with the same value.
    arch = getattr(capstone, "CS_ARCH_AARCH64", None) or capstone.CS_ARCH_ARM64
    code = (word & WORD).to_bytes(INSTRUCTION_SIZE, "little")
    disassembler = capstone.Cs(arch, capstone.CS_MODE_LITTLE_ENDIAN)
    for _, _, mnemonic, operands in disassembler.disasm_lite(code, pc):
        readable = _NEGATIVE.sub(lambda found: f"#{signed(int(found[1], 16), 64):#x}", operands)
        return f"{mnemonic} {readable}".rstrip()
    return f".inst {word & WORD:#010x}"
