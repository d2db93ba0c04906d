# SPDX-License-Identifier: GPL-2.0-only
"""The payload ``snippet``: run up to eight instructions that the caller chose, once.

It exists for arm64 only, because there the kind of instruction decides what KVM can do about an
access.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from pyvmm.guest.payload import Payload

_BLOCK = struct.Struct("<8QIIQQ")
_INSTRUCTIONS = 0x100  # offset in the payload
LONGEST = 8  # instructions

_NOP = 0xD503201F


class SnippetOutcome(IntEnum):
    """The outcome of the run, as the guest saw it."""

    NOT_RUN = 0
    OK = 1
    EXCEPTION = 2
    SERROR = 3


@dataclass(frozen=True)
class SnippetResult:
    """The result of the run.

    Attributes:
        outcome: its outcome.
        registers: ``x0`` to ``x7`` after it.
        syndrome: for an exception, the low word of ESR_EL1.
        far: for an exception, FAR_EL1.
        elr: for an exception, ELR_EL1.
    """

    outcome: SnippetOutcome
    registers: tuple[int, ...]
    syndrome: int
    far: int
    elr: int


def payload(words: Sequence[int]) -> Payload:
    """Return the payload that runs these instruction words.

    Raises `ValueError` for more than `LONGEST` words.
    """
    if len(words) > LONGEST:
        raise ValueError(f"a snippet has at most {LONGEST} instructions, not {len(words)}")
    template = Payload.builtin("snippet", "arm64")
    code = struct.pack(f"<{LONGEST}I", *words, *[_NOP] * (LONGEST - len(words)))
    end = _INSTRUCTIONS + len(code)
    return Payload(
        template.name, template.arch, template.code[:_INSTRUCTIONS] + code + template.code[end:]
    )


def pack(registers: Sequence[int] = ()) -> bytes:
    """Return the argument block with the initial values of ``x0`` and up, at most to ``x7``."""
    return _BLOCK.pack(*registers, *[0] * (8 - len(registers)), 0, 0, 0, 0)


def unpack(block: bytes) -> SnippetResult:
    """Return the result that the guest stored in the block.

    An unknown outcome counts as `SnippetOutcome.NOT_RUN`.
    """
    *registers, number, syndrome, far, elr = _BLOCK.unpack_from(block)
    outcome = SnippetOutcome(number) if number in set(SnippetOutcome) else SnippetOutcome.NOT_RUN
    return SnippetResult(outcome, tuple(registers), syndrome, far, elr)
