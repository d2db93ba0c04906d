# SPDX-License-Identifier: GPL-2.0-only
"""`Placements` against a model: a dict with one entry per page."""

from hypothesis import given
from hypothesis import strategies as st

from pyvmm.memory.placements import Placement, Placements

PAGES = 12

pages = st.integers(0, PAGES)
ranges = st.tuples(pages, pages).map(sorted).filter(lambda pair: pair[0] < pair[1])
files = st.one_of(st.none(), st.integers(3, 5))
Step = tuple[str, list[int], int, int, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), ranges, st.integers(0, 3), files, st.integers(0, 4)),
        st.tuples(st.just("remove"), ranges, st.none(), st.none(), st.none()),
        st.tuples(st.just("protect"), ranges, st.integers(0, 3), st.none(), st.none()),
    ),
    max_size=12,
)


def pages_of(placement: Placement) -> list[tuple[int, int, int | None, int]]:
    return [
        (at, placement.prot, placement.fd, placement.part(at, at + 1).offset)
        for at in range(placement.start, placement.end)
    ]


@given(steps)
def test_placements_equal_the_model(steps: list[Step]) -> None:
    record, model = Placements(), dict[int, tuple[int, int | None, int]]()
    for step, (start, end), prot, fd, offset in steps:
        match step:
            case "add":
                record.add(Placement(start, end, prot, fd, offset if fd else 0))
                for at in range(start, end):
                    model[at] = (prot, fd, offset + at - start if fd else 0)
            case "remove":
                record.remove(start, end)
                model = {at: page for at, page in model.items() if not start <= at < end}
            case "protect":
                record.protect(start, end, prot)
                for at in range(start, end):
                    if at in model:
                        model[at] = (prot, *model[at][1:])
    found = [page for placement in record.within(0, PAGES) for page in pages_of(placement)]
    assert found == [(at, *model[at]) for at in sorted(model)]


def test_adjacent_placements_are_merged() -> None:
    record = Placements()
    for at in (3, 0, 2, 1):
        record.add(Placement(at, at + 1, 1, 7, 100 + at))
    assert len(record) == 1
