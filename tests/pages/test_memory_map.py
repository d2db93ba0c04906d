# SPDX-License-Identifier: GPL-2.0-only
from itertools import pairwise
from typing import Any

from pyvmm.pages.memory_map import LINE, memory_map
from tests.pages.documents import RUN


def test_blocks_are_in_the_order_of_their_addresses() -> None:
    blocks = memory_map(RUN).blocks
    assert [(block.first, block.kind) for block in blocks] == [
        ("0x40000000", "ram"),
        ("0x40400000", None),
        ("0x180000000", "memslot"),
        ("0x1a0000000", None),
        ("0x200000000", "rejected"),
        ("0x220000000", None),
        ("0x300000000", "emulated"),
    ]
    for above, below in pairwise(blocks):
        assert above.y + above.height == below.y


def test_lines_stay_in_their_block() -> None:
    for block in memory_map(RUN).blocks:
        for line in block.lines:
            assert block.y + LINE <= line.y <= block.y + block.height
            assert line.arrow is None or block.y < line.arrow < block.y + block.height


def test_memory_type_is_the_one_in_the_sentence() -> None:
    stage2 = {"slot": 1, "gpa": 0, "size": 1, "mark": "inferred"}

    def shown(sentence: str) -> str:
        document = RUN | {"stage2": [stage2 | {"stage2": sentence}], "faults": []}
        [block] = [each for each in memory_map(document).blocks if each.kind == "memslot"]
        return block.lines[0].text

    assert shown("Normal-NC in stage 2, if so") == "slot 1: Normal-NC in stage 2 (inferred)"
    assert shown("a driver, so Normal-WB in stage 2; else Device-nGnRE in stage 2") == (
        "slot 1: perhaps Normal-WB or Device-nGnRE in stage 2 (inferred)"
    )


def test_equal_faults_share_a_line() -> None:
    [fault, _] = RUN["faults"]
    many = [fault | {"gpa": fault["gpa"] + 4096 * number} for number in range(20)]
    document: dict[str, Any] = RUN | {"faults": [*many, many[0]]}
    [block] = [each for each in memory_map(document).blocks if each.kind == "memslot"]
    faulted = [line.text for line in block.lines if line.arrow is not None]
    assert len(faulted) == 6
    assert faulted[0].endswith("2 times")
    assert block.lines[-1].text == "and 14 more: see the table of faults"


def test_fault_outside_all_memory_has_a_block() -> None:
    [fault, _] = RUN["faults"]
    for gpa, position in ((0x1000, 0), (0x9_0000_0000, -1)):
        block = memory_map(RUN | {"faults": [fault | {"gpa": gpa}]}).blocks[position]
        assert block.kind is None
        assert block.lines[0].text.startswith(f"{gpa:#x}: read faults")
