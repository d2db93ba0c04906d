# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

from tests.campaign.campaign import Batch, read

ONE, TWO = Batch(0, 50, [], 1.5), Batch(50, 100, ["failed\n"], 2)


def test_state_round_trip(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert list(read(state)) == []
    state.write_text(ONE.to_line() + TWO.to_line())
    assert list(read(state)) == [ONE, TWO]


def test_an_incomplete_batch_is_run_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(ONE.to_line() + TWO.to_line()[:-3])
    assert list(read(state)) == [ONE]
    with state.open("a") as file:
        file.write(TWO.to_line())
    assert list(read(state)) == [ONE, TWO]
