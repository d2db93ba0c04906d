# SPDX-License-Identifier: GPL-2.0-only
"""The argument block of the payload ``probe``: a table of accesses, and how each went.

The payload catches its own exceptions, so that an access that aborts is an answer like any
other. What it can't catch (a ``KVM_RUN`` that fails) stops it, and the probes from there on
are `Outcome.NOT_RUN`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

_COUNT = struct.Struct("<Q")
# va, width, op, value; then the answer: outcome, syndrome, far.
_RECORD = struct.Struct("<QIIQIIQ")

WIDTHS = (1, 2, 4, 8)


class Op(IntEnum):
    """What to do."""

    READ = 0
    WRITE = 1


class Outcome(IntEnum):
    """How it went, as the guest saw it."""

    NOT_RUN = 0
    OK = 1
    ABORT = 2


@dataclass(frozen=True)
class Probe:
    """One access that the guest shall make.

    Attributes:
        gva: guest virtual address, in bytes.
        width: 1, 2, 4 or 8 bytes.
        op: read or write.
        value: what to write.
    """

    gva: int
    width: int = 4
    op: Op = Op.READ
    value: int = 0

    def __post_init__(self) -> None:
        if self.width not in WIDTHS:
            raise ValueError(f"a probe is 1, 2, 4 or 8 bytes wide, not {self.width}")
        if self.value >> 8 * self.width:
            raise ValueError(f"{self.value:#x} does not fit into {self.width} bytes")


@dataclass(frozen=True)
class Answer:
    """What came of a probe.

    Attributes:
        probe: which one.
        outcome: how it went.
        value: what a read that went well returned.
        syndrome: of an abort: the low word of ESR_EL1; on x86 the vector in the upper half
            and the error code in the lower.
        far: of an abort: FAR_EL1 or CR2, the GVA that the CPU blames.
    """

    probe: Probe
    outcome: Outcome
    value: int
    syndrome: int
    far: int


def pack(probes: Sequence[Probe]) -> bytes:
    """The argument block: 8 bytes, and 40 for each probe."""
    records = (_RECORD.pack(p.gva, p.width, p.op, p.value, 0, 0, 0) for p in probes)
    return _COUNT.pack(len(probes)) + b"".join(records)


def answers(probes: Sequence[Probe], block: bytes) -> list[Answer]:
    """What the guest made of the block that `pack` had packed, one answer a probe.

    `block` is at least as long as it was then. The guest may have written anything to it:
    that gives odd answers, and an outcome that there is not counts as `Outcome.NOT_RUN`.
    """
    found = []
    for n, probe in enumerate(probes):
        record = _RECORD.unpack_from(block, _COUNT.size + n * _RECORD.size)
        _, _, _, value, outcome, syndrome, far = record
        known = Outcome(outcome) if outcome in iter(Outcome) else Outcome.NOT_RUN
        found.append(Answer(probe, known, value, syndrome, far))
    return found
