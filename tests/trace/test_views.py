# SPDX-License-Identifier: GPL-2.0-only
import io
import json

import pytest

from pyvmm.errors import UsageError
from pyvmm.trace.events import Event, Process
from pyvmm.trace.views import EventPrinter, Filter, ViewOptions, address_range
from tests.trace.sample_events import ALL, CAP, FLIP, HLT, MMIO, SLOT


def printed(options: ViewOptions) -> str:
    out = io.StringIO()
    printer = EventPrinter(options, out, ["qemu"])
    for event in ALL:
        printer.add(event)
    printer.finish()
    return out.getvalue()


def test_default_is_one_line_per_event() -> None:
    assert len(printed(ViewOptions()).splitlines()) == len(ALL)


def test_summary_alone_prints_no_events() -> None:
    assert printed(ViewOptions(summary=True)).startswith("ioctls:\n")


def test_filtered_summary_drops_the_memslots_of_closed_vms() -> None:
    out = io.StringIO()
    printer = EventPrinter(ViewOptions(summary=True, filter=Filter(on=("vm*",))), out, [])
    for closed in (SLOT, Process(0, 1, 1, "close", "vm1"), Process(0, 1, 1, "close", "vm2")):
        printer.add(closed)
    printer.finish()
    assert "memslots of vm1 when it was closed:" in out.getvalue()


def test_summary_follows_the_events() -> None:
    text = printed(ViewOptions(summary=True, slots=True))
    assert text.index("munmap") < text.index("ioctls:")


def test_memslot_timeline() -> None:
    first, second = printed(ViewOptions(slots=True)).splitlines()
    assert "KVM_SET_USER_MEMORY_REGION" in first
    assert "munmap" in second


def test_json_has_a_header_and_the_events() -> None:
    documents = [json.loads(text) for text in printed(ViewOptions(json=True)).splitlines()]
    assert documents == [documents[0], *(event.to_json() for event in ALL)]
    assert documents[0]["command"] == ["qemu"]


def test_summary_counts_filtered_events() -> None:
    text = printed(ViewOptions(summary=True, json=True, filter=Filter(exits=("hlt",))))
    assert list(json.loads(text)["exits"]) == ["hlt"]


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        pytest.param(Filter(), ALL, id="no filter"),
        pytest.param(Filter(on=("vm1",)), [SLOT], id="fd by label"),
        pytest.param(Filter(on=("vcpu", "system")), [CAP, MMIO, HLT], id="fds by kind"),
        pytest.param(Filter(on=("vm1/*",)), [MMIO, HLT], id="fds by pattern"),
        pytest.param(Filter(ioctls=("KVM_RUN",)), [MMIO, HLT], id="ioctl"),
        pytest.param(Filter(ioctls=("KVM_SET_*", "KVM_CHECK_*")), [SLOT, CAP], id="ioctl patterns"),
        pytest.param(Filter(exits=("hlt",)), [HLT], id="exit"),
        pytest.param(Filter(addresses=((0x2FFF, 0x2FFF),)), [SLOT, MMIO, FLIP], id="GPA"),
        pytest.param(Filter(addresses=((0x3000, 0x3FFF),)), [], id="GPA after the slot"),
        pytest.param(Filter(addresses=((0x7F1800, 0x7F1800),)), [SLOT, FLIP], id="HVA"),
    ],
)
def test_filter(options: Filter, selected: list[Event]) -> None:
    assert [event for event in ALL if options.matches(event)] == selected


@pytest.mark.parametrize(
    ("text", "expected"), [("0x1000", (0x1000, 0x1000)), ("4096-0x1fff", (0x1000, 0x1FFF))]
)
def test_address_range(text: str, expected: tuple[int, int]) -> None:
    assert address_range(text) == expected


@pytest.mark.parametrize("text", ["", "here", "1-2-3"])
def test_invalid_address_range(text: str) -> None:
    with pytest.raises(UsageError, match="invalid address"):
        address_range(text)
