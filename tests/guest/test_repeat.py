# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.guest import repeat


def test_the_block_is_three_little_endian_words() -> None:
    block = repeat.pack(3, 0x10)
    assert block == bytes([3, *7 * [0], 0x10, *7 * [0], *8 * [0]])


def test_the_result_is_the_third_word() -> None:
    assert repeat.last_word(bytes(16) + b"\x78\x56\x34\x12\0\0\0\0") == 0x1234_5678
