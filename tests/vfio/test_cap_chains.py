# SPDX-License-Identifier: GPL-2.0-only
"""Valid and malformed capability chains."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.vfio.cap_chains import MalformedChainError, RawCapability, walk

FIXED = 32

LINKS = st.lists(
    st.builds(
        RawCapability,
        id=st.integers(0, 0xFFFF),
        version=st.integers(0, 0xFFFF),
        # The kernel rounds what follows a capability up to 8 bytes.
        data=st.integers(0, 6).flatmap(lambda n: st.binary(min_size=8 * n, max_size=8 * n)),
    ),
    max_size=8,
)


def encode(links: Sequence[RawCapability], order: Sequence[int]) -> tuple[bytes, int]:
    """Return an INFO buffer with the capabilities in the given order, and the chain's offset."""
    starts, end = {}, FIXED
    for index in order:
        starts[index] = end
        end += 8 + len(links[index].data)
    buffer = bytearray(end)
    for index, link in enumerate(links):
        following = starts.get(index + 1, 0)
        struct.pack_into("=HHI", buffer, starts[index], link.id, link.version, following)
        buffer[starts[index] + 8 : starts[index] + 8 + len(link.data)] = link.data
    return bytes(buffer), starts.get(0, 0)


def header(following: int) -> bytes:
    return struct.pack("=HHI", 1, 1, following)


@given(st.data())
def test_walk_returns_the_chain_in_any_buffer_order(data: st.DataObject) -> None:
    links = data.draw(LINKS)
    order = data.draw(st.permutations(range(len(links))))
    buffer, first = encode(links, order)
    assert walk(buffer, first, FIXED) == links


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(0, 64))
def test_random_bytes_are_a_chain_or_malformed(buffer: bytes, first: int, fixed: int) -> None:
    try:
        links = walk(buffer, first, fixed)
    except MalformedChainError as error:
        assert "\n" not in str(error)  # noqa: PT017 (most bytes are malformed)
    else:
        assert sum(8 + len(link.data) for link in links) <= len(buffer)


@given(LINKS.filter(bool), st.data())
def test_loop_is_rejected(links: list[RawCapability], data: st.DataObject) -> None:
    buffer, first = encode(links, range(len(links)))
    starts = [first]
    for link in links[:-1]:
        starts.append(starts[-1] + 8 + len(link.data))
    looped = bytearray(buffer)
    struct.pack_into("=I", looped, starts[-1] + 4, data.draw(st.sampled_from(starts)))
    with pytest.raises(MalformedChainError, match="loops"):
        walk(bytes(looped), first, FIXED)


@pytest.mark.parametrize(
    ("chain", "first", "why"),
    [
        pytest.param(b"", FIXED, "cut off", id="no bytes"),
        pytest.param(header(0)[:7], FIXED, "cut off", id="header truncated"),
        pytest.param(header(0), 0x1000, "cut off", id="first beyond the buffer"),
        pytest.param(header(0xFFFFFFF8), FIXED, "cut off", id="next beyond the buffer"),
        pytest.param(header(0), FIXED - 1, "within the struct", id="first in the struct"),
        pytest.param(header(4), FIXED, "within the struct", id="next in the struct"),
        pytest.param(header(FIXED), FIXED, "loops", id="itself"),
        pytest.param(header(FIXED + 4) + bytes(8), FIXED, "loops", id="shares bytes"),
    ],
)
def test_malformed_chain(chain: bytes, first: int, why: str) -> None:
    with pytest.raises(MalformedChainError, match=why):
        walk(bytes(FIXED) + chain, first, FIXED)


def test_no_chain() -> None:
    assert walk(bytes(FIXED), 0, FIXED) == []
