# SPDX-License-Identifier: GPL-2.0-only
"""An exit through pyvmm's run loop, against a bare ioctl loop in Python and one in C.

pyvmm creates a typed exit and calls a device back. The bare loops only look at exit_reason.
"""

import ctypes
import fcntl
import time
from collections.abc import Callable, Iterator
from typing import Any

from pyvmm import sandbox
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.machine import Machine
from pyvmm.uapi.kvm import KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_RUN
from pyvmm.uapi.native_arch import kvm_run
from tests.bench._measure import Figure, compile_loop, medians
from tests.exits_vmm import exiting_machine
from tests.process import in_child

EXITS, ROUNDS = 5_000, 41

_SOURCE = f"""
#include <sys/ioctl.h>
void loop(int fd, volatile unsigned *reason)
{{
    do
        ioctl(fd, {int(KVM_RUN):#x}, 0);
    while (*reason == {KVM_EXIT_IO} || *reason == {KVM_EXIT_MMIO});
}}
"""


def main() -> Iterator[Figure]:
    in_c = compile_loop(_SOURCE, ctypes.c_int, ctypes.c_void_p)
    seconds = medians(
        {
            "pyvmm": lambda: _time(Machine.run),
            "bare Python": lambda: _time(lambda machine: _bare(machine.vcpu)),
            "C": lambda: _time(lambda m: in_c(m.vcpu.fileno(), _exit_reason(m.vcpu))),
            "forked": lambda: float(in_child(lambda: str(_time(Machine.run)))),
            "sandboxed": lambda: float(in_child(lambda: str(_time(Machine.run, sandboxed=True)))),
        },
        ROUNDS,
    )
    for name, value in seconds.items():
        yield Figure(name, value / EXITS * 1e6, "µs per exit")
    yield Figure("pyvmm / bare Python", seconds["pyvmm"] / seconds["bare Python"], goal=1.25)
    yield Figure("pyvmm / C", seconds["pyvmm"] / seconds["C"])
    yield Figure("sandboxed / forked", seconds["sandboxed"] / seconds["forked"])


def _time(loop: Callable[[Machine], object], *, sandboxed: bool = False) -> float:
    """Return the CPU seconds that `loop` needs for `EXITS` exits of a new machine."""
    with exiting_machine(EXITS) as machine:
        if sandboxed:
            sandbox.enter()
        start = time.thread_time()
        loop(machine)
        return time.thread_time() - start


def _bare(vcpu: Vcpu) -> None:
    fd, state, ioctl, run = vcpu.fileno(), vcpu.kvm_run, fcntl.ioctl, int(KVM_RUN)
    while True:
        ioctl(fd, run)
        if state.exit_reason not in (KVM_EXIT_IO, KVM_EXIT_MMIO):
            return


def _exit_reason(vcpu: Vcpu) -> int:
    """Return the HVA of ``kvm_run.exit_reason``."""
    field: Any = kvm_run.exit_reason  # a ctypes descriptor; type checkers see the member's type
    return vcpu.mapping.hva + int(field.offset)
