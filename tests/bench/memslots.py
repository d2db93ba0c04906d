# SPDX-License-Identifier: GPL-2.0-only
"""Registration of as many memslots as a VM can have: the last thousand against the first.

The same ioctls without pyvmm's record of slots show the kernel's share.
"""

import fcntl
import time
from collections.abc import Iterator
from statistics import median

from pyvmm.kvm import System, Vm
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import KVM_SET_USER_MEMORY_REGION, kvm_userspace_memory_region
from tests.bench._measure import Figure

SAMPLE = 1000


def main() -> Iterator[Figure]:
    with System.open() as system, Mapping.anonymous(PAGE_SIZE) as memory:

        def through_pyvmm(vm: Vm, number: int) -> None:
            vm.memslots.add(2 * number * PAGE_SIZE, memory)

        def bare(vm: Vm, number: int) -> None:
            gpa = 2 * number * PAGE_SIZE
            region = kvm_userspace_memory_region(
                slot=number, guest_phys_addr=gpa, memory_size=PAGE_SIZE, userspace_addr=memory.hva
            )
            fcntl.ioctl(vm.fileno(), KVM_SET_USER_MEMORY_REGION, region)

        contenders = {"pyvmm": through_pyvmm, "bare ioctl": bare}
        with system.create_vm() as vm, system.create_vm() as other:
            limit = vm.memslots.limit()
            seconds: dict[str, list[float]] = {name: [] for name in contenders}
            for number in range(limit):
                for each, (name, register) in zip((vm, other), contenders.items(), strict=True):
                    start = time.perf_counter()
                    register(each, number)
                    seconds[name].append(time.perf_counter() - start)
        medians = {
            name: [median(part) * 1e6 for part in (times[:SAMPLE], times[-SAMPLE:])]
            for name, times in seconds.items()
        }
        for name, (first, last) in medians.items():
            yield Figure(f"{name}, first {SAMPLE} of {limit}", first, "µs each")
            yield Figure(f"{name}, last {SAMPLE}", last, "µs each")
        first, last = (a / b for a, b in zip(*medians.values(), strict=True))
        yield Figure("pyvmm / bare ioctl, first", first, goal=1.5)
        yield Figure("pyvmm / bare ioctl, last", last, goal=1.5)
