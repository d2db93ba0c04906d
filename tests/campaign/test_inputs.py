# SPDX-License-Identifier: GPL-2.0-only
"""The parsers accept their seeds, and a parser that fails is found."""

import random
from pathlib import Path

import pytest

from tests.campaign.inputs import failures
from tests.campaign.mutation import Mutator, minimized
from tests.campaign.parsers import PARSERS, Parser


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_are_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "smaps"
    for seed in PARSERS[name].seeds:
        path.write_bytes(seed)
        PARSERS[name].parse(seed, path)


def test_failing_inputs_are_reported_once_per_place(tmp_path: Path) -> None:
    def parse(data: bytes, path: Path) -> None:
        if len(data) > 5:
            raise KeyError(1)
        if data.endswith(b"b"):
            raise IndexError(2)

    found = list(failures(Parser(parse, (b"a b",)), 2000, random.Random(0), tmp_path))
    assert len(found) == 2
    assert "KeyError" in "".join(found)
    assert "b'b': Traceback" in "".join(found)


def test_message_of_several_lines_is_a_failure(tmp_path: Path) -> None:
    def parse(data: bytes, path: Path) -> None:
        raise ValueError("one\ntwo")

    parser = Parser(parse, (b"a",), rejects=(ValueError,))
    [found] = failures(parser, 10, random.Random(0), tmp_path)
    assert "one\ntwo" in found


def test_minimized_input_is_the_part_that_fails() -> None:
    assert minimized(b"x" * 999 + b"ab" + b"y" * 999, lambda data: b"ab" in data) == b"ab"


def test_inputs_are_repeatable_and_differ() -> None:
    def inputs() -> list[bytes]:
        mutator = Mutator((b'{"slot": 1}\n',), random.Random(7), is_json=True)
        return [mutator.input() for _ in range(200)]

    assert inputs() == inputs()
    assert len(set(inputs())) > 100
