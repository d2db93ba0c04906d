# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

import pytest

from tests.trace.conftest import ROOT

# Traces a VMM that takes argv[2] exits; prints the peak of the tracer's resident memory in KiB.
PEAK = """
import os, sys
from pathlib import Path
from pyvmm.trace.kvm_trace import KvmTrace
from pyvmm.trace.tracer import Tracer
from pyvmm.trace.views import EventPrinter, ViewOptions

full = sys.argv[1] == "lines"
printer = EventPrinter(ViewOptions(summary=not full), open(os.devnull, "w"), [])
trace = KvmTrace([printer.add], detailed=full, count_run=printer.run_counter())
tracer = Tracer(trace, trace.syscalls)
tracer.start([sys.executable, "-m", "tests.exits_vmm", sys.argv[2]], stdout=2)
tracer.run()
[peak] = [text for text in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in text]
print(peak.split()[1])
"""


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("view", ["lines", "summary"])
def test_memory_does_not_grow_with_the_exits(view: str) -> None:
    """Ten bytes kept of each of 38000 exits would fail the test."""
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", PEAK, view, count], stderr=-3, cwd=ROOT))
        for count in ("2000", "40000")
    )
    assert many - few < 370, f"{many - few} KiB more"
