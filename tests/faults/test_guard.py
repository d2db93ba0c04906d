# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Hashable
from functools import partial

import pytest

from pyvmm.faults.guard import ATTEMPTS, Guard


def attempts(*faults: tuple[int, Hashable, Hashable]) -> list[int]:
    """Return the attempts at faults, each given as PC, fault and registers."""
    guard = Guard()
    return [guard.attempt(pc, fault, partial(_same, state)) for pc, fault, state in faults]


def _same(state: Hashable) -> Hashable:
    return state


def test_a_fault_with_unchanged_registers_is_another_attempt() -> None:
    assert attempts(*[(1, "a", "same")] * 4) == [1, 2, 3, 4]


def test_a_loop_makes_progress() -> None:
    """The first recurrence counts as an attempt: there are no earlier registers to compare."""
    found = attempts(*[(1, "a", n) for n in range(1000)])
    assert found[:3] == [1, 2, 1]
    assert max(found) == 2


def test_progress_makes_the_registers_be_read_less_often() -> None:
    guard, reads = Guard(), iter(range(1000))
    for _ in range(1000):
        guard.attempt(1, "a", lambda: next(reads))
    assert next(reads) < 50


def test_a_loop_that_gets_stuck_later_is_detected() -> None:
    found = attempts(*[(1, "a", n) for n in range(500)], *[(1, "a", "same")] * 100)
    assert max(found) > ATTEMPTS


@pytest.mark.parametrize("second", [(2, "a", 0), (1, "b", 0)], ids=["instruction", "address"])
def test_another_instruction_or_address_is_another_fault(second: tuple[int, str, int]) -> None:
    assert attempts((1, "a", 0), second) == [1, 1]


def test_an_instruction_that_faults_on_many_pages_makes_progress() -> None:
    pages = [(1, page, 0) for page in range(12)]
    assert max(attempts(*pages, *pages)) <= ATTEMPTS


def test_the_registers_are_not_read_for_a_new_fault() -> None:
    guard = Guard()

    def never() -> Hashable:
        raise AssertionError

    assert [guard.attempt(1, page, never) for page in range(200)] == [1] * 200
