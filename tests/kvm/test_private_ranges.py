# SPDX-License-Identifier: GPL-2.0-only
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.kvm.private_ranges import PrivateRanges
from pyvmm.uapi.kvm import KVM_MEMORY_ATTRIBUTE_PRIVATE

PAGES = 16
changes = st.tuples(st.integers(0, PAGES - 1), st.integers(1, PAGES), st.booleans())


@given(st.lists(changes))
def test_each_page_has_the_attribute_that_was_set_last(made: list[tuple[int, int, bool]]) -> None:
    ranges, pages = PrivateRanges(), [False] * (2 * PAGES)
    for first, count, private in made:
        ranges.set(first, count, KVM_MEMORY_ATTRIBUTE_PRIVATE if private else 0)
        pages[first : first + count] = [private] * count
    assert [page in ranges for page in range(2 * PAGES)] == pages
