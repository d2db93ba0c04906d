# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.pci.msix_table import Message, MsixTable


def make(vectors: int) -> tuple[MsixTable, list[int]]:
    changed: list[int] = []
    return MsixTable(vectors, changed.append), changed


def test_every_vector_is_masked_after_reset() -> None:
    table, _ = make(3)
    assert [table[n] for n in range(3)] == [Message(0, 0, True)] * 3
    assert table.read(12, 4) == 1


def test_a_message_in_words_of_either_size() -> None:
    table, changed = make(2)
    table.write(16, 8, 0x1_0803_0040)
    table.write(24, 4, 7)
    table.write(28, 4, 0)
    assert table[1] == Message(0x1_0803_0040, 7, False)
    assert table.read(20, 4) == 1
    assert changed == [1, 1, 1]


def test_a_write_across_two_vectors_changes_both() -> None:
    table, changed = make(2)
    table.write(12, 8, 5 << 32)
    assert changed == [0, 1]
    assert (table[0].masked, table[1].address) == (False, 5)


def test_a_write_across_the_end_is_cut() -> None:
    table, changed = make(1)
    table.write(12, 8, (1 << 64) - 1)
    assert (table.size, changed) == (16, [0])
