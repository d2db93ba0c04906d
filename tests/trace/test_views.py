# SPDX-License-Identifier: GPL-2.0-only
import io
import json
import subprocess
import sys

import pytest

from pyvmm.trace.filters import Filter
from pyvmm.trace.views import Views, Wanted
from tests.trace.conftest import ROOT
from tests.trace.test_filters import ALL


def shown(wanted: Wanted) -> str:
    out = io.StringIO()
    views = Views(wanted, out, ["qemu"])
    for event in ALL:
        views.take(event)
    views.finish()
    return out.getvalue()


def test_by_default_every_event_is_a_line() -> None:
    assert len(shown(Wanted()).splitlines()) == len(ALL)


def test_a_summary_alone_has_no_lines_of_events() -> None:
    assert shown(Wanted(summary=True)).startswith("ioctls:\n")


def test_lines_and_then_a_summary() -> None:
    text = shown(Wanted(summary=True, slots=True))
    assert text.index("munmap") < text.index("ioctls:")


def test_the_timeline_is_memslots_and_what_was_flipped() -> None:
    first, second = shown(Wanted(slots=True)).splitlines()
    assert "KVM_SET_USER_MEMORY_REGION" in first
    assert "munmap" in second


def test_json_is_a_header_and_the_events() -> None:
    documents = [json.loads(text) for text in shown(Wanted(json=True)).splitlines()]
    assert documents == [documents[0], *(event.to_json() for event in ALL)]
    assert documents[0]["command"] == ["qemu"]


def test_a_summary_counts_what_the_filter_lets_through() -> None:
    text = shown(Wanted(summary=True, json=True, filter=Filter(exits=("hlt",))))
    assert list(json.loads(text)["exits"]) == ["hlt"]


FLAT = """
import os, sys
from pathlib import Path
from pyvmm.trace.inject import Rules
from pyvmm.trace.known import Known
from pyvmm.trace.tracer import Tracer
from pyvmm.trace.views import Views, Wanted
from pyvmm.trace.watch import Watch

full = sys.argv[1] == "lines"
views = Views(Wanted(summary=not full), open(os.devnull, "w"), [])
known = Known(Rules([]), full)
watch = Watch(known, [views.take], mappings=full, count=views.counter())
tracer = Tracer(watch, watch.calls)
tracer.start([sys.executable, "-m", "tests.exits_vmm", sys.argv[2]], stdout=2)
tracer.run()
[peak] = [text for text in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in text]
print(peak.split()[1])
"""


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("view", ["lines", "summary"])
def test_memory_does_not_grow_with_the_exits(view: str) -> None:
    """Twenty times the exits; a mere ten bytes kept of each would show."""
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", FLAT, view, count], stderr=-3, cwd=ROOT))
        for count in ("2000", "40000")
    )
    assert many - few < 370, f"{many - few} KiB more"
