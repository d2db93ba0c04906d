# SPDX-License-Identifier: GPL-2.0-only
"""The set of memslots against a list of ranges, on a real kernel, over random changes."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pyvmm.kvm import Memslot, System
from pyvmm.kvm.memslots import MemslotError
from pyvmm.memory import PAGE_SIZE, Mapping

SPACE = 12  # pages of guest memory that slots compete for
pages = st.integers(0, SPACE - 1)


class Slots(RuleBasedStateMachine):
    """What the kernel took has to be what a model that knows only overlaps would take."""

    slots = Bundle("slots")
    system: System

    @initialize()
    def create(self) -> None:
        self.vm = self.system.create_vm()
        self.memory = Mapping.anonymous(SPACE * PAGE_SIZE)
        self.model: dict[int, tuple[int, int]] = {}  # number → first page, pages

    def teardown(self) -> None:
        if hasattr(self, "vm"):
            self.vm.close()
            self.memory.close()

    def overlaps(self, page: int, count: int, but: int | None = None) -> bool:
        return any(
            page < other + size and other < page + count
            for number, (other, size) in self.model.items()
            if number != but
        )

    @rule(target=slots, page=pages, count=st.integers(1, 4), readonly=st.booleans())
    def add(self, page: int, count: int, readonly: bool) -> object:
        gpa, size = page * PAGE_SIZE, count * PAGE_SIZE
        if self.overlaps(page, count):
            with pytest.raises(MemslotError, match="it overlaps slot"):
                self.vm.memslots.add(gpa, self.memory, size=size, readonly=readonly)
            return multiple()
        slot = self.vm.memslots.add(gpa, self.memory, size=size, readonly=readonly)
        self.model[slot.number] = page, count
        return slot

    @rule(target=slots, slot=consumes(slots), page=pages)
    def move(self, slot: Memslot, page: int) -> Memslot:
        _, count = self.model[slot.number]
        if self.overlaps(page, count, but=slot.number):
            with pytest.raises(MemslotError, match="it overlaps slot"):
                self.vm.memslots.move(slot, page * PAGE_SIZE)
            return slot
        self.model[slot.number] = page, count
        return self.vm.memslots.move(slot, page * PAGE_SIZE)

    @rule(target=slots, slot=consumes(slots), at=pages)
    def replace(self, slot: Memslot, at: int) -> Memslot:
        return self.vm.memslots.replace(slot, self.memory, at=at * PAGE_SIZE)

    @rule(target=slots, slot=consumes(slots), on=st.booleans())
    def log_dirty(self, slot: Memslot, on: bool) -> Memslot:
        slot = self.vm.memslots.log_dirty(slot, on)
        if on:
            assert self.vm.memslots.dirty_pages(slot) == []
        return slot

    @rule(slot=consumes(slots))
    def remove(self, slot: Memslot) -> None:
        self.vm.memslots.remove(slot)
        del self.model[slot.number]

    @invariant()
    def the_set_is_the_model(self) -> None:
        expected = sorted((page, count, number) for number, (page, count) in self.model.items())
        found = [(s.gpa // PAGE_SIZE, s.size // PAGE_SIZE, s.number) for s in self.vm.memslots]
        assert found == expected

    @invariant()
    def lookup_finds_what_a_search_finds(self) -> None:
        for page in range(SPACE + 4):
            found = self.vm.memslots.at(page * PAGE_SIZE + 1)
            expected = [n for n, (first, count) in self.model.items() if 0 <= page - first < count]
            assert ([found.number] if found else []) == expected


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_memslots_against_a_model(kvm: System) -> None:
    class WithKvm(Slots):
        system = kvm

    run_state_machine_as_test(
        WithKvm, settings=settings(max_examples=25, stateful_step_count=30, deadline=None)
    )
