# SPDX-License-Identifier: GPL-2.0-only
"""The argument block of the payload ``probe``: a table of accesses and the result of each.

The payload catches its own exceptions, so an access that aborts has a result like any other. A
failing ``KVM_RUN`` stops the payload; the accesses from there on are `ProbeOutcome.NOT_RUN`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

_COUNT = struct.Struct("<Q")
# Request: va, width, op, value. Result: value, outcome, syndrome, far.
_RECORD = struct.Struct("<QIIQIIQ")

WIDTHS = (1, 2, 4, 8)


class Op(IntEnum):
    """The kind of access."""

    READ = 0
    WRITE = 1


class ProbeOutcome(IntEnum):
    """The outcome of one access, as the guest saw it."""

    NOT_RUN = 0
    OK = 1
    ABORT = 2


@dataclass(frozen=True)
class Probe:
    """One access for the guest to make.

    Attributes:
        gva: guest virtual address.
        width: 1, 2, 4 or 8 bytes.
        op: read or write.
        value: the value to write.
    """

    gva: int
    width: int = 4
    op: Op = Op.READ
    value: int = 0

    def __post_init__(self) -> None:
        """Raise `ValueError` for another width, or a value that does not fit."""
        if self.width not in WIDTHS:
            raise ValueError(f"a probe is 1, 2, 4 or 8 bytes wide, not {self.width}")
        if self.value >> 8 * self.width:
            raise ValueError(f"{self.value:#x} does not fit into {self.width} bytes")


@dataclass(frozen=True)
class ProbeResult:
    """The result of one `Probe`.

    Attributes:
        probe: the access.
        outcome: its outcome.
        value: the value that a successful read returned.
        syndrome: for an abort on arm64, the low word of ESR_EL1; on x86_64, the vector in the
            upper half and the error code in the lower.
        far: for an abort, the GVA in FAR_EL1 or CR2.
    """

    probe: Probe
    outcome: ProbeOutcome
    value: int
    syndrome: int
    far: int


def pack(probes: Sequence[Probe]) -> bytes:
    """Return the argument block: 8 bytes, plus 40 bytes per probe."""
    records = (_RECORD.pack(p.gva, p.width, p.op, p.value, 0, 0, 0) for p in probes)
    return _COUNT.pack(len(probes)) + b"".join(records)


def unpack(probes: Sequence[Probe], block: bytes) -> list[ProbeResult]:
    """Return the results that the guest stored in the block, one per probe.

    `block` must be at least as long as `pack` made it. The guest may have overwritten it with
    anything; an unknown outcome counts as `ProbeOutcome.NOT_RUN`.
    """
    results = []
    for n, probe in enumerate(probes):
        record = _RECORD.unpack_from(block, _COUNT.size + n * _RECORD.size)
        _, _, _, value, number, syndrome, far = record
        outcome = ProbeOutcome(number) if number in iter(ProbeOutcome) else ProbeOutcome.NOT_RUN
        results.append(ProbeResult(probe, outcome, value, syndrome, far))
    return results
