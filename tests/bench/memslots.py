# SPDX-License-Identifier: GPL-2.0-only
"""Registration of as many memslots as a VM can have: the last thousand against the first.

The same ioctls without pyvmm's record of slots show the kernel's share.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from statistics import median

from pyvmm.kvm import System, Vm
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import KVM_SET_USER_MEMORY_REGION, kvm_userspace_memory_region

SAMPLE = 1000


def main() -> Iterator[str]:
    with System.open() as system, Mapping.anonymous(PAGE_SIZE) as memory:

        def through_pyvmm(vm: Vm, number: int) -> None:
            vm.memslots.add(2 * number * PAGE_SIZE, memory)

        def bare(vm: Vm, number: int) -> None:
            gpa = 2 * number * PAGE_SIZE
            region = kvm_userspace_memory_region(
                slot=number, guest_phys_addr=gpa, memory_size=PAGE_SIZE, userspace_addr=memory.hva
            )
            fcntl.ioctl(vm.fileno(), KVM_SET_USER_MEMORY_REGION, region)

        microseconds = {}
        for name, register in (("pyvmm", through_pyvmm), ("bare ioctl", bare)):
            with system.create_vm() as vm:
                limit = vm.memslots.limit()
                microseconds[name] = first, last = _times(vm, register, limit)
            yield (
                f"{name:<11} {limit} slots: first {SAMPLE} {first:5.1f} µs each, "
                f"last {SAMPLE} {last:5.1f} µs each"
            )
        first, last = (
            a / b for a, b in zip(microseconds["pyvmm"], microseconds["bare ioctl"], strict=True)
        )
        yield f"pyvmm / bare ioctl: first {first:.2f}, last {last:.2f} (goal: equal)"


def _times(vm: Vm, register: Callable[[Vm, int], None], limit: int) -> tuple[float, float]:
    """Return the median microseconds per slot of the first and the last `SAMPLE` of `limit`."""
    seconds = []
    for number in range(limit):
        start = time.perf_counter()
        register(vm, number)
        seconds.append(time.perf_counter() - start)
    return median(seconds[:SAMPLE]) * 1e6, median(seconds[-SAMPLE:]) * 1e6
