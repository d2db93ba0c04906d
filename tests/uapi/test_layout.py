# SPDX-License-Identifier: GPL-2.0-only
"""A Struct's members have exactly the bytes and bits of their offsets."""

import ctypes
import types
from ctypes import Array, c_uint16
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.uapi.layout import Struct, at, ptr, s16, u8, u16, u32, u64

BITS = {u8: 8, u16: 16, u32: 32, u64: 64}


class header(Struct, size=4):
    id: u16 = at(0)
    version: u16 = at(2)


class example(Struct, size=24):
    first: header = at(0)
    number: u64 = at(8)  # a gap before
    address: ptr = at(8)  # a union
    signed: s16 = at(10)  # inside the union, not at its start
    array: Annotated[Array[c_uint16], c_uint16 * 3] = at(16)
    low: u8 = at(22, bit=0, width=3)
    high: u8 = at(22, bit=3, width=5)  # and a gap after


class flexible(Struct, size=8):
    count: u32 = at(0)
    entries: Annotated[Array[header], header * 0] = at(8)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, dict[str, tuple[Any, int, int, int]]]:
    """Draw a size, and members (type, offset, bit, width) that fit it and may share bytes."""
    size = draw(st.integers(8, 64))
    members = {}
    for index in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(list(BITS)))
        offset = draw(st.integers(0, size - BITS[kind] // 8))
        bit = width = 0
        if draw(st.booleans()):
            bit = draw(st.integers(0, BITS[kind] - 1))
            width = draw(st.integers(1, BITS[kind] - bit))
        members[f"member{index}"] = (kind, offset, bit, width)
    return size, members


@given(layouts(), st.data())
def test_a_member_changes_only_its_own_bits(
    layout: tuple[int, dict[str, tuple[Any, int, int, int]]], data: st.DataObject
) -> None:
    size, members = layout
    body = {"__annotations__": {name: kind for name, (kind, *_) in members.items()}}
    body |= {name: at(*place) for name, (_, *place) in members.items()}
    struct: Any = types.new_class("struct", (Struct,), {"size": size}, lambda ns: ns.update(body))
    assert ctypes.sizeof(struct) == size
    for name, (kind, offset, bit, width) in members.items():
        mask = (1 << (width or BITS[kind])) - 1
        before = data.draw(st.binary(min_size=size, max_size=size))
        value = data.draw(st.integers(0, mask))
        instance = struct.from_buffer_copy(before)
        shift = 8 * offset + bit
        number = int.from_bytes(before, "little")
        assert getattr(instance, name) == number >> shift & mask
        setattr(instance, name, value)
        after = number & ~(mask << shift) | value << shift
        assert bytes(instance) == after.to_bytes(size, "little")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"first": header(id=0x1122, version=0x3344)}, "22114433" + 20 * "00"),
        ({"number": 0x8877665544332211}, 8 * "00" + "1122334455667788" + 8 * "00"),
        ({"address": 1, "signed": -1}, 8 * "00" + "0100ffff00000000" + 8 * "00"),
        ({"low": 7, "high": 1}, 22 * "00" + "0f" + "00"),
    ],
)
def test_keywords_set_members(values: dict[str, Any], expected: str) -> None:
    assert bytes(example(**values)).hex() == expected


def test_a_misspelled_member_is_an_error() -> None:
    with pytest.raises(AttributeError, match="vesion"):
        header(vesion=1)  # type: ignore[call-arg]


def test_repr_names_every_member() -> None:
    value = example(first=header(id=1), number=0x10, low=1)
    assert repr(value) == (
        "example(first=header(id=1, version=0), number=0x10, address=0x10, signed=0, "
        "array=[0] * 3, low=1, high=0)"
    )
    value.array[1] = 0xAB
    assert "array=[0, 0xab, 0]" in repr(value)


def test_with_room_places_the_array_behind_the_struct() -> None:
    kind = flexible.with_room(2)
    value = kind(count=2)
    value.entries[1].version = 0x5566
    assert bytes(value).hex() == "02000000" + "00000000" + "00000000" + "00006655"
    assert kind is flexible.with_room(2)
    assert isinstance(value, flexible)


def test_with_room_needs_a_flexible_array() -> None:
    with pytest.raises(TypeError, match="struct header has 0 flexible arrays"):
        header.with_room(1)
