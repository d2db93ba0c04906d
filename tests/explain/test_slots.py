# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.explain.slots import ToldSlot, read

ONE = {"slot": 3, "guest_phys_addr": "0x1000", "memory_size": 8192, "userspace_addr": "0x7f0000"}


def test_hexadecimal_numbers_are_strings(tmp_path: Path) -> None:
    path = tmp_path / "slots.json"
    path.write_text(json.dumps([ONE, {**ONE, "slot": 4, "flags": 2}]))
    slots = read(path)
    assert slots.known
    assert slots.numbered(3) == ToldSlot(3, 0x1000, 0x2000, 0x7F0000)
    assert [slot.readonly for slot in slots] == [False, True]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is no JSON"),
        ("{}", "holds no list of memslots"),
        ("[1]", "1 is no memslot"),
        ('[{"slot": 1}]', "it needs slot, guest_phys_addr"),
        (json.dumps([{**ONE, "memory_size": -1}]), "is no memslot"),
        (json.dumps([{**ONE, "memory_size": "much"}]), "is no memslot"),
    ],
)
def test_what_is_no_list_of_memslots(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "slots.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        read(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none")
