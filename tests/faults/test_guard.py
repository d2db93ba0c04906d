# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Hashable
from functools import partial

import pytest

from pyvmm.faults.guard import ATTEMPTS, Guard


def attempts(*faults: tuple[int, Hashable, Hashable]) -> list[int]:
    """Each fault as (PC, what failed, registers)."""
    guard = Guard()
    return [guard.attempt(pc, what, partial(_same, state)) for pc, what, state in faults]


def _same(state: Hashable) -> Hashable:
    return state


def test_the_same_fault_with_nothing_done_between_is_another_attempt() -> None:
    assert attempts(*[(1, "a", "same")] * 4) == [1, 2, 3, 4]


def test_a_loop_makes_progress() -> None:
    """Registers differ each time around; at first they are not looked at, so that counts."""
    found = attempts(*[(1, "a", n) for n in range(1000)])
    assert found[:3] == [1, 2, 1]
    assert max(found) == 2


def test_what_has_made_progress_is_looked_at_less() -> None:
    guard, looks = Guard(), iter(range(1000))
    for _ in range(1000):
        guard.attempt(1, "a", lambda: next(looks))
    assert next(looks) < 50


def test_what_made_progress_and_is_stuck_then_is_found_out() -> None:
    found = attempts(*[(1, "a", n) for n in range(500)], *[(1, "a", "same")] * 100)
    assert max(found) > ATTEMPTS


@pytest.mark.parametrize("second", [(2, "a", 0), (1, "b", 0)], ids=["instruction", "address"])
def test_another_instruction_or_address_is_another_fault(second: tuple[int, str, int]) -> None:
    assert attempts((1, "a", 0), second) == [1, 1]


def test_an_instruction_with_many_pages_is_not_stuck() -> None:
    pages = [(1, page, 0) for page in range(12)]
    assert max(attempts(*pages, *pages)) <= ATTEMPTS


def test_the_registers_are_not_looked_at_for_what_never_failed_before() -> None:
    guard = Guard()

    def never() -> Hashable:
        raise AssertionError

    assert [guard.attempt(1, page, never) for page in range(200)] == [1] * 200
