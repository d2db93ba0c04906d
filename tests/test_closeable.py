# SPDX-License-Identifier: GPL-2.0-only
"""Where a block ends, what is owned is closed, and an error goes on."""

import pytest

from pyvmm.closeable import Closeable


class Owner(Closeable):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_block_closes_what_it_entered() -> None:
    with Owner() as owner:
        assert owner.closed == 0
    assert owner.closed == 1


def test_an_error_closes_too_and_goes_on() -> None:
    owner = Owner()
    with pytest.raises(ValueError, match="of the block"), owner:
        raise ValueError("of the block")
    assert owner.closed == 1
