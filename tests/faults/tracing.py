# SPDX-License-Identifier: GPL-2.0-only
"""Stage-2 faults as the kernel reports them: its trace event ``kvm_guest_fault``."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_TRACEFS = Path("/sys/kernel/tracing")
_EVENT = re.compile(
    r"kvm_guest_fault: ipa 0x([0-9a-f]+), hsr 0x([0-9a-f]+), hxfar 0x([0-9a-f]+), pc 0x([0-9a-f]+)"
)

_FETCH = (0x20, 0x21)  # ESR_EL2.EC of instruction aborts
_WNR, _S1PTW = 1 << 6, 1 << 7


@dataclass(frozen=True)
class GuestFault:
    """A stage-2 fault as the CPU reported it; `ipa` is that of a 4 KiB page."""

    ipa: int
    esr: int
    far: int
    pc: int

    @property
    def access(self) -> str:
        """Return the kind of access."""
        if self.esr >> 26 in _FETCH:
            return "exec"
        return "write" if self.esr & _WNR else "read"

    @property
    def table(self) -> bool:
        """Return True for a fault on a stage-1 table walk (ESR_EL2.S1PTW)."""
        return bool(self.esr & _S1PTW)


class Trace:
    """The trace buffer of the kernel."""

    def clear(self) -> None:
        """Drop the events so far."""
        (_TRACEFS / "trace").write_text("")

    def faults(self) -> list[GuestFault]:
        """Return the events since `clear`, oldest first."""
        found = _EVENT.findall((_TRACEFS / "trace").read_text())
        return [GuestFault(*(int(value, 16) for value in values)) for values in found]


@contextmanager
def traced() -> Iterator[Trace]:
    """Trace stage-2 faults; skip the test if this kernel has no tracing."""
    if not (_TRACEFS / "trace").exists():
        mount = ["mount", "-t", "tracefs", "tracefs", str(_TRACEFS)]
        if not _TRACEFS.exists() or subprocess.run(mount, check=False).returncode:
            pytest.skip("this kernel has no tracefs: python -m pyvmm lab test --kernel lab")
    enable = _TRACEFS / "events/kvm/kvm_guest_fault/enable"
    enable.write_text("1")
    try:
        yield Trace()
    finally:
        enable.write_text("0")
