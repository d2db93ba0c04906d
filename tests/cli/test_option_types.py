# SPDX-License-Identifier: GPL-2.0-only
import argparse

import pytest

from pyvmm.cli.option_types import option_type, process_id, seconds


def test_the_error_says_what_is_wanted() -> None:
    parse = option_type("a hexadecimal number", lambda text: int(text, 16))
    assert parse("ff") == 255
    with pytest.raises(argparse.ArgumentTypeError, match="'x' is not a hexadecimal number"):
        parse("x")


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "inf", "nan"])
def test_seconds_rejects(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a positive number of"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.5", "9" * 23])
def test_process_id_rejects(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a process ID"):
        process_id(text)


def test_types() -> None:
    assert (seconds("1.5"), process_id("42")) == (1.5, 42)
