# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.explain.slots_file import read
from pyvmm.why import Slot

ONE = {"slot": 3, "guest_phys_addr": "0x1000", "memory_size": 8192, "userspace_addr": "0x7f0000"}


def test_numbers_and_hexadecimal_strings(tmp_path: Path) -> None:
    path = tmp_path / "slots.json"
    path.write_text(json.dumps([ONE, {**ONE, "slot": 4, "flags": 2}]))
    first, second = read(path)
    assert first == Slot(3, 0x1000, 0x2000, 0x7F0000)
    assert (second.number, second.readonly) == (4, True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "is not a list of memslots"),
        ("[1]", "1 is not a memslot"),
        ('[{"slot": 1}]', "it needs slot, guest_phys_addr"),
        (json.dumps([{**ONE, "memory_size": -1}]), "is not a memslot"),
        (json.dumps([{**ONE, "memory_size": "much"}]), "is not a memslot"),
    ],
)
def test_malformed_file(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "slots.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none")
