# SPDX-License-Identifier: GPL-2.0-only
"""A fault that pyvmm explains, fixes and replays, compared with a fix in C.

The memory is unmapped before each load of the guest. The loop in C examines nothing: it maps the
page again, completes the MMIO exit, and enters the guest.
"""

import ctypes
import io
import time
from collections.abc import Callable, Iterator

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always
from pyvmm.guest import repeat
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.kvm.exits import Mmio
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import KVM_EXIT_MMIO, KVM_RUN
from pyvmm.uapi.native_arch import kvm_run
from tests.bench._measure import Figure, compile_loop, medians

FAULTS, ROUNDS = 5_000, 7
GPA = 1 << 32

_SOURCE = f"""
#define _GNU_SOURCE
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
void loop(int fd, volatile unsigned *reason, unsigned char *data, void *page)
{{
    while (ioctl(fd, {int(KVM_RUN):#x}, 0) == 0 && *reason == {KVM_EXIT_MMIO}) {{
        mmap(page, {PAGE_SIZE}, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        memcpy(data, page, 4);
        munmap(page, {PAGE_SIZE});
    }}
}}
"""


def main() -> Iterator[Figure]:
    in_c = compile_loop(_SOURCE, ctypes.c_int, *[ctypes.c_void_p] * 3)
    with System.open() as system:

        def bare(machine: Machine, page: int) -> None:
            run = machine.vcpu.mapping.hva
            in_c(
                machine.vcpu.fileno(), run + _offset("exit_reason"), run + _offset("mmio") + 8, page
            )

        seconds = medians(
            {"pyvmm": lambda: _time(system, _unmap_again), "C": lambda: _time(system, bare)}, ROUNDS
        )
    for name, value in seconds.items():
        yield Figure(name, value / FAULTS * 1e6, "µs per fault")
    yield Figure("pyvmm / C", seconds["pyvmm"] / seconds["C"], goal=2)


def _time(system: System, loop: Callable[[Machine, int], None]) -> float:
    """Return the CPU seconds that `loop` needs for `FAULTS` faults of a new machine."""
    with Machine(system, console=io.BytesIO()) as machine:
        with Mapping(3 * PAGE_SIZE) as memory:
            memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE)
            machine.vm.memslots.add(GPA, memory, at=PAGE_SIZE, size=PAGE_SIZE)
            machine.windows.append(identity(GPA, PAGE_SIZE))
            machine.faults.policy = always(Fix.REPLAY)
            machine.load(Payload.builtin("loads", machine.arch.NAME))
            machine.enter(repeat.pack(FAULTS, GPA))
            page = memory.hva + PAGE_SIZE
            libc.munmap(page, PAGE_SIZE)
            start = time.thread_time()
            loop(machine, page)
            return time.thread_time() - start


def _unmap_again(machine: Machine, page: int) -> None:
    """Run with pyvmm's handler, and unmap the memory again after each fault."""
    handle = machine.handlers[Mmio]

    def handle_and_unmap(exit: Mmio) -> bool:
        resume = handle(exit)
        libc.munmap(page, PAGE_SIZE)
        return resume

    machine.handlers = {**machine.handlers, Mmio: handle_and_unmap}
    machine.run()
    assert machine.faults.counts["hva-unmapped"] == FAULTS


def _offset(member: str) -> int:
    offset: int = getattr(kvm_run, member).offset
    return offset
