# SPDX-License-Identifier: GPL-2.0-only
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.bus import Bus


class Echo:
    """A device that reads as its offset and records the last write."""

    def __init__(self) -> None:
        self.last: tuple[int, int, int] | None = None

    def read(self, offset: int, size: int) -> int:
        return offset

    def write(self, offset: int, size: int, value: int) -> None:
        self.last = offset, size, value


def test_device_gets_offsets_not_addresses() -> None:
    bus, device = Bus(), Echo()
    bus.attach(0x1000, 0x10, device)
    assert bus.read(0x100F, 1) == 0xF
    assert bus.write(0x1004, 4, 7)
    assert device.last == (4, 4, 7)


@pytest.mark.parametrize("address", [0, 0xFFF, 0x1010, 2**64 - 1])
def test_no_device_at_address(address: int) -> None:
    bus = Bus()
    bus.attach(0x1000, 0x10, Echo())
    assert bus.read(address, 1) is None
    assert not bus.write(address, 1, 0)


@pytest.mark.parametrize(("address", "size"), [(0x100F, 2), (0x100C, 8), (0xFFF, 2)])
def test_access_across_a_range_end_is_not_routed(address: int, size: int) -> None:
    bus, device = Bus(), Echo()
    bus.attach(0x1000, 0x10, device)
    assert bus.read(address, size) is None
    assert not bus.write(address, size, 0)
    assert device.last is None


@pytest.mark.parametrize(("start", "size"), [(0xFFF, 2), (0x100F, 1), (0, 0x2000), (0x1000, 0x10)])
def test_attach_rejects_overlap(start: int, size: int) -> None:
    bus = Bus()
    bus.attach(0x1000, 0x10, Echo())
    with pytest.raises(ValueError, match="overlaps"):
        bus.attach(start, size, Echo())


def test_detach_removes_what_lies_within() -> None:
    bus = Bus()
    for start in (0x1000, 0x2000, 0x3000):
        bus.attach(start, 0x1000, Echo())
    bus.detach(0x1800, 0x1800)
    assert [bool(bus.at(start)) for start in (0x1000, 0x2000, 0x3000)] == [True, False, True]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 20))), st.integers(0, 220))
def test_lookup_equals_linear_search(ranges: list[tuple[int, int]], address: int) -> None:
    bus = Bus()
    attached: list[tuple[int, int]] = []
    for start, size in ranges:
        if all(start + size <= s or s + n <= start for s, n in attached):
            bus.attach(start, size, Echo())
            attached.append((start, size))
    expected = [start for start, size in attached if start <= address < start + size]
    found = bus.at(address)
    assert ([found.start] if found else []) == expected
