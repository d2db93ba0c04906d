# SPDX-License-Identifier: GPL-2.0-only
"""Failures of memory in KVM's protected mode (pKVM), on arm64 with ``kvm-arm.mode=protected``.

Only a protected guest can read its memory after it has touched it: pyvmm looks at KVM's answer
alone.
"""

import contextlib
import ctypes
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

from pyvmm import libc
from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.bus import BusDevice
from pyvmm.errors import SkippedError
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.peek import peek
from pyvmm.provoke.bar_faults import VFIO_PCI, map_memslot_bar
from pyvmm.provoke.testbed import TARGET_GPA, TARGET_SIZE, Provocation, Testbed

_LDR_X4_X2 = 0xF9400044
_STR_W4_X3 = 0xB9000064
_HUGE = 1 << 21  # bytes
_HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
_MFD_HUGETLB = 4  # linux/memfd.h

_CAPGET, _CAPSET = 90, 91  # asm-generic/unistd.h
_CAPABILITY_VERSION_3 = 0x2008_0522  # linux/capability.h
_CAP_IPC_LOCK = 14


class Bell(BusDevice):
    """An emulated device that calls a function on a write."""

    def __init__(self, ring: Callable[[], object]) -> None:
        """Call `ring`."""
        self._ring = ring

    def read(self, offset: int, size: int) -> int:
        """Return 0."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Call the function."""
        self._ring()


def _read(testbed: Testbed) -> None:
    testbed.execute([_LDR_X4_X2], (0, 0, TARGET_GPA))


def _read_anonymous(testbed: Testbed) -> None:
    testbed.protect_guest()
    testbed.add_anonymous()
    _read(testbed)


def _read_hugetlb(testbed: Testbed) -> None:
    testbed.protect_guest()
    _reserve_huge_page(testbed)
    fd = os.memfd_create("pyvmm-guest-memory", os.MFD_CLOEXEC | _MFD_HUGETLB)
    testbed.stack.callback(os.close, fd)
    os.ftruncate(fd, _HUGE)
    memory = testbed.stack.enter_context(Mapping.of_file(fd, _HUGE, align=_HUGE))
    testbed.machine.vm.memslots.add(TARGET_GPA, memory)
    testbed.map_target()
    _read(testbed)


def _reserve_huge_page(testbed: Testbed) -> None:
    try:
        before = int(_HUGE_PAGES.read_text())
        _HUGE_PAGES.write_text(str(before + 1))
    except OSError as error:
        raise SkippedError(
            f"{_HUGE_PAGES}: {os.strerror(error.errno or 0)}: it needs root, and a kernel with "
            "CONFIG_HUGETLBFS"
        ) from None
    testbed.stack.callback(_HUGE_PAGES.write_text, str(before))


def _read_beyond_limit(testbed: Testbed) -> None:
    testbed.protect_guest()
    testbed.add_anonymous()
    with _no_locked_memory():
        _read(testbed)


@contextlib.contextmanager
def _no_locked_memory() -> Iterator[None]:
    """Set RLIMIT_MEMLOCK to 0, and take CAP_IPC_LOCK from this thread, during the block."""
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)  # pid 0 is the caller
    sets = (ctypes.c_uint32 * 6)()  # struct __user_cap_data_struct[2], effective first
    libc.syscall(_CAPGET, ctypes.addressof(header), ctypes.addressof(sets))
    effective = sets[0]
    sets[0] &= ~(1 << _CAP_IPC_LOCK)
    libc.syscall(_CAPSET, ctypes.addressof(header), ctypes.addressof(sets))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)
        sets[0] = effective
        libc.syscall(_CAPSET, ctypes.addressof(header), ctypes.addressof(sets))


def _read_reclaimed(testbed: Testbed) -> None:
    """Read a page in the VMM between two reads of the guest's."""
    testbed.protect_guest()
    hva = testbed.add_anonymous()
    bell = TARGET_GPA + TARGET_SIZE
    testbed.machine.mmio.attach(bell, PAGE_SIZE, Bell(lambda: peek(hva, 8)))
    testbed.machine.windows.append(identity(bell, PAGE_SIZE, MemoryType.DEVICE))
    code = [_LDR_X4_X2, _STR_W4_X3, _LDR_X4_X2]
    testbed.execute(code, (0, 0, TARGET_GPA, bell))


def _read_bar(testbed: Testbed) -> None:
    """Read a BAR in a guest that is not protected."""
    if not testbed.machine.vm.host.may_protect_guests:
        raise SkippedError(
            "needs KVM in protected mode: python -m pyvmm lab run --mode protected -- provoke"
        )
    testbed.read(map_memslot_bar(testbed, testbed.assign(VFIO_PCI)).gpa)


PROVOCATIONS = (
    Provocation(
        "protected",
        "a protected guest's read of anonymous memory",
        None,
        _read_anonymous,
    ),
    Provocation(
        "protected-hugetlb",
        "a protected guest's read of a huge page",
        "protected-not-swap-backed",
        _read_hugetlb,
    ),
    Provocation(
        "protected-memlock",
        "a protected guest's read beyond RLIMIT_MEMLOCK",
        "protected-memory-locked",
        _read_beyond_limit,
    ),
    Provocation(
        "protected-peeked",
        "process_vm_readv of a protected guest's page, and its next read",
        "protected-reclaimed",
        _read_reclaimed,
    ),
    Provocation(
        "protected-bar",
        "a read of a BAR, with KVM in protected mode",
        "protected-device-memory",
        _read_bar,
    ),
)
