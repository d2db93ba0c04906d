# SPDX-License-Identifier: GPL-2.0-only
"""Every form of A64 load and store: its encoding without registers and immediates.

In the order of DDI 0487, C4.1 "Loads and Stores", with what system instructions store. Unallocated
encodings of a class are forms too: the CPU decides. SVE and SME are absent: the vCPUs have neither.
"""

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.operation import Operation, Undecodable

_TRIES = 8  # per form: some operands are not allocated


def _field(high: int, low: int) -> int:
    return (1 << high + 1) - (1 << low)


_SIZE, _Q, _V, _OPC = _field(31, 30), _field(30, 30), _field(26, 26), _field(23, 22)
_L, _R, _INDEX, _OPCODE = _field(22, 22), _field(21, 21), _field(11, 10), _field(15, 12)
_RM, _RT2, _IMM9 = _field(20, 16), _field(14, 10), _field(20, 12)

# Each class: its fixed bits, the bits that select a form, and its operands besides Rn and Rt.
_CLASSES = (
    (0x0C000000, _Q | _L | _OPCODE | _INDEX),  # structures
    (0x0C800000, _Q | _L | _OPCODE | _INDEX, _RM),  # structures, post-indexed
    (0x0D000000, _Q | _L | _R | _OPCODE | _INDEX),  # single structures
    (0x0D800000, _Q | _L | _R | _OPCODE | _INDEX, _RM),  # single structures, post-indexed
    (0x0D018400, _Q | _L),  # single structures, with release or acquire
    (0xD9200000, _OPC | _INDEX, _IMM9),  # tags
    (0xD91F0C00, _field(12, 12)),  # guarded control stack
    (0x08000000, _SIZE | _field(23, 21) | _field(15, 15), _RM, _RT2),  # exclusive, ordered, CAS
    (0x19000000, _SIZE | _OPC, _IMM9),  # unscaled, with release or acquire
    (0x1D000800, _SIZE | _OPC, _IMM9),  # the same of SIMD registers
    (0x19000800, _SIZE | _OPC | _OPCODE, _RM),  # pairs, with release or acquire
    (0x19000400, _V | _OPC | _OPCODE, _RM),  # memory copy and set
    (0x19200000, _OPC | _OPCODE, _RM),  # 128-bit atomics
    (0x18000000, _SIZE | _V, _field(23, 5)),  # literals
    (0x28000000, _SIZE | _V | _field(24, 22), _RT2, _field(21, 15)),  # pairs
    (0x38000000, _SIZE | _V | _OPC | _INDEX, _IMM9),  # unscaled, unprivileged, indexed
    (0x38200000, _SIZE | _V | _OPC | _OPCODE, _RM),  # atomics, 64 bytes
    (0x38200800, _SIZE | _V | _OPC | _OPCODE, _RM),  # register offset
    (0x38200400, _SIZE | _V | _OPC | _field(11, 11), _IMM9),  # pointer authentication
    (0x39000000, _SIZE | _V | _OPC, _field(21, 10)),  # unsigned immediate
    (0xD5087020, _field(11, 8) | _field(7, 6)),  # cache maintenance of EL1, and of EL0: DC ZVA
    (0xD50B7020, _field(11, 8) | _field(7, 6)),
)


@dataclass(frozen=True)
class Form:
    """A form of instruction: its fixed bits, and the masks of its operands besides Rn and Rt."""

    fixed: int
    operands: tuple[int, ...]

    def word(self, chance: random.Random, rn: int, rt: int) -> int:
        """Return an instruction of this form; some encodings need operands of all ones or zeros."""
        word = self.fixed | rt
        if self.fixed >> 24 != 0xD5:
            word |= rn << 5
        all_ones = chance.random() < 0.3
        for mask in self.operands:
            word |= mask & (-1 if all_ones else chance.choice((0, -1, chance.getrandbits(32))))
        return word


def _subsets(mask: int) -> Iterator[int]:
    """Yield each value of the bits in `mask`."""
    value = 0
    while True:
        yield value
        value = (value - mask) & mask
        if not value:
            return


_IN_ORDER = [
    Form(fixed | chosen, tuple(operands))
    for fixed, choices, *operands in _CLASSES
    for chosen in _subsets(choices)
]
FORMS = tuple(random.Random(0).sample(_IN_ORDER, len(_IN_ORDER)))
"""Every form, in an order that mixes the classes."""


@functools.cache
def allocated() -> tuple[Form, ...]:
    """Return the forms that the architecture allocates, in the order of `FORMS`."""
    return tuple(form for form in FORMS if any(map(_is_allocated, _examples(form))))


@functools.cache
def decodable() -> tuple[Form, ...]:
    """Return the forms that pyvmm decodes, and can emulate."""
    return tuple(
        form
        for form in allocated()
        if any(isinstance(decode(word), Operation) for word in _examples(form))
    )


def _examples(form: Form) -> Iterator[int]:
    chance = random.Random(0)
    return (form.word(chance, 1, 2) for _ in range(_TRIES))


def _is_allocated(word: int) -> bool:
    decoded = decode(word)
    return not isinstance(decoded, Undecodable) or "unallocated" not in decoded.why
