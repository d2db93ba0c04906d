# SPDX-License-Identifier: GPL-2.0-only
"""The payload ``snippet``: a few instructions of the caller's, run once, and what came of them.

For arm64, where it is the instruction that decides what KVM can do about an access.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from pyvmm.guest.payload import Payload

_BLOCK = struct.Struct("<8QIIQQ")
_OWN = 0x100  # where the payload has room for them
LONGEST = 8  # instructions

_NOP = 0xD503201F


class Outcome(IntEnum):
    """How it went, as the guest saw it."""

    NOT_RUN = 0
    OK = 1
    EXCEPTION = 2
    SERROR = 3


@dataclass(frozen=True)
class Answer:
    """What came of it.

    Attributes:
        registers: ``x0`` to ``x7`` afterwards.
        syndrome, far, elr: of an exception: the low word of ESR_EL1, FAR_EL1 and ELR_EL1.
    """

    outcome: Outcome
    registers: tuple[int, ...]
    syndrome: int
    far: int
    elr: int


def payload(words: Sequence[int]) -> Payload:
    """The payload that runs these instructions, `LONGEST` at most, given as their words."""
    if len(words) > LONGEST:
        raise ValueError(f"{len(words)} instructions are more than {LONGEST}")
    ready = Payload.builtin("snippet", "arm64")
    own = struct.pack(f"<{LONGEST}I", *words, *[_NOP] * (LONGEST - len(words)))
    code = ready.code[:_OWN] + own + ready.code[_OWN + len(own) :]
    return Payload(ready.name, ready.arch, code)


def pack(registers: Sequence[int] = ()) -> bytes:
    """The argument block: what ``x0`` and up, to ``x7``, hold beforehand."""
    return _BLOCK.pack(*registers, *[0] * (8 - len(registers)), 0, 0, 0, 0)


def answer(block: bytes) -> Answer:
    """What the guest made of the block. An outcome that there is not counts as not run."""
    *registers, outcome, syndrome, far, elr = _BLOCK.unpack_from(block)
    known = Outcome(outcome) if outcome in set(Outcome) else Outcome.NOT_RUN
    return Answer(known, tuple(registers), syndrome, far, elr)
