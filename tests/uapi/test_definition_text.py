# SPDX-License-Identifier: GPL-2.0-only
"""Definitions as text and as JSON."""

import pytest

from pyvmm.uapi.definition_text import document, words
from pyvmm.uapi.model import Definition, IoctlDefinition, Member, StructLayout


@pytest.mark.parametrize(
    ("definition", "text", "json"),
    [
        (None, "-", None),
        (243, "243", 243),
        (-1, "-1", -1),
        (1 << 31, "0x80000000", 1 << 31),
        (IoctlDefinition("KVM_RUN", 0xAE80, None), "0xae80", {"number": 0xAE80, "argument": None}),
        (IoctlDefinition("A", 0x40, "kvm_a"), "0x40, kvm_a", {"number": 0x40, "argument": "kvm_a"}),
        (StructLayout("kvm_a", 24, ()), "24 bytes", {"size": 24}),
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
def test_words_and_document(definition: Definition | None, text: str, json: object) -> None:
    assert words(definition) == text
    assert document(definition) == json
