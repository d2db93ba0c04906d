# SPDX-License-Identifier: GPL-2.0-only
"""Lines of ``trace_pipe``."""

import pytest

from pyvmm.provenance.trace_pipe import parse

PREFIX = " python3-71    [001] d..1.    12.345678: "


@pytest.mark.parametrize(
    ("text", "value"),
    # "%#016lx" prints a zero without "0x".
    [("pc 0x40200100", 0x40200100), ("pc 0000000000000000", 0), ("pc 09", 9), ("pc=-14", -14)],
)
def test_number(text: str, value: int) -> None:
    event = parse(f"{PREFIX}kvm_guest_fault: {text}")
    assert event
    assert event.values == {"pc": value}


def test_return_has_its_caller() -> None:
    event = parse(f"{PREFIX}p1: (user_mem_abort.isra.0+0x10/0x20 <- gfn_to_pfn) ret=-14")
    assert event
    assert (event.thread, event.caller, event.values) == (71, "user_mem_abort", {"ret": -14})


def test_line_of_another_form_is_no_event() -> None:
    assert parse("CPU:1 [LOST 12 EVENTS]") is None
