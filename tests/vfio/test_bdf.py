# SPDX-License-Identifier: GPL-2.0-only
"""Valid and invalid PCI addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.errors import UsageError
from pyvmm.vfio.bdf import Bdf

BDFS = st.builds(
    Bdf,
    domain=st.integers(0, 0xFFFFFFFF),
    bus=st.integers(0, 0xFF),
    device=st.integers(0, 0x1F),
    function=st.integers(0, 7),
)


@given(BDFS)
def test_parse_of_str(bdf: Bdf) -> None:
    assert Bdf.parse(str(bdf)) == Bdf.parse(str(bdf).upper()) == bdf


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("01:00.0", "did you mean 0000:01:00.0?"),
        ("0000:01:20.0", "must be 00 to 1f"),
        ("0000:01:00.8", "for example 0000:01:00.0"),
        ("0000:01:00", "for example"),
        ("0000:1:00.0", "for example"),
        (" 0000:01:00.0", "for example"),
        ("0000:01:00.0\n", "for example"),
        ("", "for example"),
        ("../../../etc", "for example"),
        ("\u0660000:01:00.0", "for example"),
    ],
)
def test_invalid_address_is_rejected(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match="PCI") as caught:
        Bdf.parse(text)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=20))
def test_random_text_parses_or_is_a_usage_error(text: str) -> None:
    try:
        assert str(Bdf.parse(text)) == text.lower()
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 (most texts are rejected)


def test_an_address_given_twice_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"0000:01:00\.0 is given twice"):
        Bdf.parse_all(["0000:01:00.0", "0000:02:00.0", "0000:01:00.0"])
