# SPDX-License-Identifier: GPL-2.0-only
import errno
import os

import pytest

from pyvmm.guest.probe import Op, Probe
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import GuestMemfd, System, Vm
from pyvmm.kvm.exits import MemoryFault
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_INIT_SHARED,
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_GUEST_MEMFD_FLAGS,
)
from tests.kvm.conftest import Touch
from tests.kvm.gpas import MEMORY_GPA
from tests.process import open_fds

SHARED = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED
SIZE = 4 * PAGE_SIZE


def create(vm: Vm, flags: int = SHARED, size: int = SIZE) -> GuestMemfd:
    if not vm.check(KVM_CAP_GUEST_MEMFD):
        pytest.skip("this kernel has no guest_memfd; Linux 7.2 has: python -m pyvmm lab test")
    if flags & ~vm.check(KVM_CAP_GUEST_MEMFD_FLAGS):
        pytest.skip("this kernel's guest_memfd cannot be mapped; 7.2's: python -m pyvmm lab test")
    return vm.create_guest_memfd(size, flags)


def test_size(vm: Vm) -> None:
    memfd = create(vm)
    assert memfd.size == os.fstat(memfd.fileno()).st_size == SIZE


def test_fd_is_not_inheritable(vm: Vm) -> None:
    assert not os.get_inheritable(create(vm).fileno())


@pytest.mark.parametrize("size", [0, PAGE_SIZE + 1])
def test_invalid_sizes(vm: Vm, size: int) -> None:
    create(vm)
    before = open_fds()
    with pytest.raises(IoctlError) as failure:
        vm.create_guest_memfd(size, SHARED)
    assert failure.value.errno == errno.EINVAL
    assert open_fds() == before


def test_punched_hole_reads_as_zero(vm: Vm) -> None:
    memfd = create(vm)
    with Mapping.of_file(memfd.fileno(), SIZE) as memory:
        memory.write(PAGE_SIZE, b"dropped")
        memory.write(2 * PAGE_SIZE, b"kept")
        memfd.punch(PAGE_SIZE, PAGE_SIZE)
        assert memory.read(PAGE_SIZE, 4) == bytes(4)
        assert memory.read(2 * PAGE_SIZE, 4) == b"kept"


def test_populate_ranges(vm: Vm) -> None:
    memfd = create(vm)
    memfd.populate(PAGE_SIZE, SIZE - PAGE_SIZE)
    memfd.populate(0, SIZE)


@pytest.mark.parametrize(("offset", "size"), [(1, PAGE_SIZE), (0, SIZE + PAGE_SIZE)])
def test_populate_invalid_ranges(vm: Vm, offset: int, size: int) -> None:
    memfd = create(vm)
    with pytest.raises(OSError, match=r"fallocate\(") as failure:
        memfd.populate(offset, size)
    assert failure.value.errno == errno.EINVAL


def test_guest_accesses_it(machine: Machine, touch: Touch) -> None:
    memfd = create(machine.vm)
    with Mapping.of_file(memfd.fileno(), SIZE) as memory:
        memory.write(0, b"\x2a")
        machine.vm.memslots.add(MEMORY_GPA, memory, guest_memfd=memfd)
        read, write = Probe(MEMORY_GPA, 1), Probe(MEMORY_GPA + PAGE_SIZE, 4, Op.WRITE, 0xABCD)
        _, [answer, _] = touch(read, write)
        assert answer.value == 42
        assert memory.read(PAGE_SIZE, 2) == b"\xcd\xab"


@pytest.mark.needs_arch("aarch64")  # x86 KVM with shadow paging uses the HVA
@pytest.mark.parametrize("touched", [False, True])
def test_closed_guest_memfd_faults(machine: Machine, touch: Touch, touched: bool) -> None:
    """Closing it unmaps the pages that the guest has touched, too (kvm_gmem_release)."""
    memfd = create(machine.vm)
    machine.vm.memslots.add(MEMORY_GPA, None, guest_memfd=memfd)
    if touched:
        _, [answer] = touch(Probe(MEMORY_GPA + PAGE_SIZE))
        assert answer.value == 0
    memfd.close()
    outcome, _ = touch(Probe(MEMORY_GPA + PAGE_SIZE))
    assert outcome.last_exit == MemoryFault(0, MEMORY_GPA + PAGE_SIZE, PAGE_SIZE, errno.EFAULT)


def test_vm_close_closes_it(kvm: System) -> None:
    before = open_fds()
    with kvm.create_vm() as vm:
        create(vm)
    assert open_fds() == before
