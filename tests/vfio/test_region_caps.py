# SPDX-License-Identifier: GPL-2.0-only
"""Decoding of known, unknown and truncated region capabilities."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.vfio.cap_chains import MalformedChainError, RawCapability
from pyvmm.vfio.region_caps import (
    Area,
    Capability,
    MsixMappable,
    NvlinkSpeed,
    NvlinkTarget,
    RegionType,
    SparseMmap,
    UnknownCapability,
    decode,
)

U64 = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("link", "capability", "text"),
    [
        (
            RawCapability(1, 1, struct.pack("=II4Q", 2, 0, 0, 0x1000, 0x3000, 0x1000)),
            SparseMmap((Area(0, 0x1000), Area(0x3000, 0x1000))),
            "sparse-mmap 0x0-0x1000, 0x3000-0x4000",
        ),
        (RawCapability(1, 1, bytes(8)), SparseMmap(()), "sparse-mmap nothing"),
        (
            RawCapability(2, 1, struct.pack("=II", 0x80008086, 1)),
            RegionType(0x80008086, 1),
            "igd-opregion (vendor 0x8086, subtype 1)",
        ),
        (
            RawCapability(2, 1, struct.pack("=II", 0x800010DE, 1)),
            RegionType(0x800010DE, 1),
            "nvlink2-ram (vendor 0x10de, subtype 1)",
        ),
        (
            RawCapability(2, 1, struct.pack("=II", 7, 9)),
            RegionType(7, 9),
            "type (type 7, subtype 9)",
        ),
        (RawCapability(3, 1, b""), MsixMappable(), "msix-mappable"),
        (
            RawCapability(4, 1, struct.pack("=Q", 1 << 40)),
            NvlinkTarget(1 << 40),
            "nvlink2-target 0x10000000000",
        ),
        (RawCapability(5, 1, struct.pack("=II", 8, 0)), NvlinkSpeed(8), "nvlink2-speed 0x8"),
        (
            RawCapability(3, 2, b""),
            UnknownCapability(3, 2, b""),
            "unknown capability 3 version 2: empty",
        ),
        (
            RawCapability(99, 1, b"\x01\xff"),
            UnknownCapability(99, 1, b"\x01\xff"),
            "unknown capability 99 version 1: 01 ff",
        ),
    ],
    ids=[
        *("sparse-mmap", "sparse-mmap without areas", "igd-opregion", "nvlink2-ram", "type"),
        *("msix-mappable", "nvlink2-target", "nvlink2-speed", "unknown version", "unknown"),
    ],
)
def test_decode(link: RawCapability, capability: Capability, text: str) -> None:
    assert decode(link) == capability
    assert str(capability) == text


@given(st.lists(st.builds(Area, U64, U64), max_size=20), st.binary(max_size=16))
def test_bytes_after_the_sparse_areas_are_ignored(areas: list[Area], after: bytes) -> None:
    pairs = b"".join(struct.pack("=QQ", area.offset, area.size) for area in areas)
    link = RawCapability(1, 1, struct.pack("=II", len(areas), 0) + pairs + after)
    assert decode(link) == SparseMmap(tuple(areas))


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(RawCapability(1, 1, bytes(7)), id="sparse header"),
        pytest.param(RawCapability(1, 1, struct.pack("=II", 1, 0)), id="sparse area missing"),
        pytest.param(
            RawCapability(1, 1, struct.pack("=II", 0xFFFFFFFF, 0)), id="sparse count absurd"
        ),
        pytest.param(RawCapability(2, 1, bytes(4)), id="type"),
        pytest.param(RawCapability(4, 1, bytes(4)), id="nvlink target"),
        pytest.param(RawCapability(5, 1, b""), id="nvlink speed"),
    ],
)
def test_truncated_capability(link: RawCapability) -> None:
    with pytest.raises(MalformedChainError, match=r"cut off|do not fit"):
        decode(link)


@given(
    st.builds(RawCapability, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=64))
)
def test_random_capability_decodes_or_is_malformed(link: RawCapability) -> None:
    try:
        assert str(decode(link))
    except MalformedChainError as error:
        assert "\n" not in str(error)  # noqa: PT017 (both ends are fine)
