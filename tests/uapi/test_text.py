# SPDX-License-Identifier: GPL-2.0-only
"""What differs of a thing, in words and for JSON."""

import pytest

from pyvmm.uapi.model import Ioctl, Member, Struct, Thing
from pyvmm.uapi.text import document, words


@pytest.mark.parametrize(
    ("thing", "text", "json"),
    [
        (None, "-", None),
        (243, "243", 243),
        (-1, "-1", -1),
        (1 << 31, "0x80000000", 1 << 31),
        (Ioctl("KVM_RUN", 0xAE80, None), "0xae80", {"number": 0xAE80, "argument": None}),
        (Ioctl("A", 0x40, "kvm_a"), "0x40, kvm_a", {"number": 0x40, "argument": "kvm_a"}),
        (Struct("kvm_a", 24, ()), "24 bytes", {"size": 24}),
        (
            Member("pad", "u64", (3, 0), 16),
            "u64[3][] at 16",
            {"type": "u64", "counts": [3, 0], "offset": 16},
        ),
        (
            Member("mode", "u8", (), 1, bit=3, width=2),
            "u8 at 1, bits 3-4",
            {"type": "u8", "counts": [], "offset": 1, "bit": 3, "width": 2},
        ),
    ],
)
def test_things(thing: Thing | None, text: str, json: object) -> None:
    assert words(thing) == text
    assert document(thing) == json
