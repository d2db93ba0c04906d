# SPDX-License-Identifier: GPL-2.0-only
"""An exit through pyvmm's run loop, against a bare ioctl loop in Python, and one in C.

pyvmm makes a typed exit of each and calls a device back; the bare loops look at the reason only.
"""

import ctypes
import fcntl
import io
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.machine import Machine
from pyvmm.uapi.kvm import KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_RUN
from pyvmm.uapi.native_arch import kvm_run
from tests.bench._rounds import medians

EXITS, ROUNDS = 5_000, 41
PORT, GPA, SIZE = 0x80, 0x0A00_0000, 0x1000  # a port on x86-64, a GPA on arm64

_SOURCE = f"""
#include <sys/ioctl.h>
void loop(int fd, volatile unsigned *reason)
{{
    do
        ioctl(fd, {int(KVM_RUN):#x}, 0);
    while (*reason == {KVM_EXIT_IO} || *reason == {KVM_EXIT_MMIO});
}}
"""


class Sink:
    """A device that takes every write."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        pass


def main() -> Iterator[str]:
    with System.open() as system, tempfile.TemporaryDirectory() as directory:
        in_c = _compile(Path(directory))

        def each(loop: Callable[[Machine], object]) -> Callable[[], float]:
            return lambda: _time(system, loop)

        took = medians(
            {
                "pyvmm": each(Machine.run),
                "bare Python": each(lambda machine: _bare(machine.vcpu)),
                "C": each(lambda machine: in_c(machine.vcpu.fileno(), _reason(machine.vcpu))),
            },
            ROUNDS,
        )
    for name, seconds in took.items():
        yield f"{name:<12} {seconds / EXITS * 1e6:6.2f} µs an exit"
    yield f"pyvmm / bare Python: {took['pyvmm'] / took['bare Python']:.2f} (aim: at most 1.25)"
    yield f"pyvmm / C: {took['pyvmm'] / took['C']:.2f}"


def _time(system: System, loop: Callable[[Machine], object]) -> float:
    """The seconds that `loop` takes for `EXITS` exits of a fresh machine."""
    with Machine(system, console=io.BytesIO()) as machine:
        machine.mmio.attach(GPA, SIZE, Sink())
        machine.ports.attach(PORT, 1, Sink())
        machine.windows.append(identity(GPA, SIZE, MemoryType.DEVICE))
        machine.load(Payload.builtin("exits", machine.arch.NAME))
        machine.enter(repeat.pack(EXITS, PORT if machine.arch.CONSOLE_IS_PORT else GPA))
        start = time.thread_time()
        loop(machine)
        return time.thread_time() - start


def _bare(vcpu: Vcpu) -> None:
    fd, state, ioctl, run = vcpu.fileno(), vcpu.kvm_run, fcntl.ioctl, int(KVM_RUN)
    while True:
        ioctl(fd, run)
        if state.exit_reason not in (KVM_EXIT_IO, KVM_EXIT_MMIO):
            return


def _reason(vcpu: Vcpu) -> int:
    field: Any = kvm_run.exit_reason  # ctypes' descriptor, which type checkers take for the value
    return vcpu.mapping.hva + int(field.offset)


def _compile(directory: Path) -> Callable[[int, int], object]:
    source, library = directory / "loop.c", directory / "loop.so"
    source.write_text(_SOURCE)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    loop = ctypes.CDLL(str(library)).loop
    loop.argtypes = (ctypes.c_int, ctypes.c_void_p)
    loop.restype = None
    return loop
