# SPDX-License-Identifier: GPL-2.0-only
"""A with block closes its object and lets an exception pass."""

import pytest

from pyvmm.closeable import Closeable


class Owner(Closeable):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_end_of_a_block_closes() -> None:
    with Owner() as owner:
        assert owner.closed == 0
    assert owner.closed == 1


def test_an_exception_closes_and_passes() -> None:
    owner = Owner()
    with pytest.raises(ValueError, match="of the block"), owner:
        raise ValueError("of the block")
    assert owner.closed == 1
