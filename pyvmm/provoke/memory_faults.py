# SPDX-License-Identifier: GPL-2.0-only
"""What can happen to ordinary memory behind a memslot."""

import errno
import os
import signal

from pyvmm import libc
from pyvmm.errors import SkippedError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.peek import poke
from pyvmm.provoke import raw_mmap
from pyvmm.provoke.testbed import SIZE, WHERE, Provocation, Testbed
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_INIT_SHARED,
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_GUEST_MEMFD,
)

_MADV_HWPOISON = 100  # asm-generic/mman-common.h
_MEMFD_SECRET = 447  # asm-generic/unistd.h; the same number on every architecture


def _unmapped(testbed: Testbed) -> None:
    hva = testbed.anonymous()
    testbed.read(after=lambda: raw_mmap.unmap(hva, PAGE_SIZE))


def _unmapped_file(testbed: Testbed) -> None:
    hva, _ = testbed.file()
    testbed.read(after=lambda: raw_mmap.unmap(hva, PAGE_SIZE))


def _no_access(testbed: Testbed) -> None:
    raw_mmap.protect(testbed.anonymous(), SIZE, PROT_NONE)
    testbed.read()


def _read_only(testbed: Testbed) -> None:
    raw_mmap.protect(testbed.anonymous(), SIZE, PROT_READ)
    testbed.write()


def _replaced_by_memory(testbed: Testbed) -> None:
    hva, _ = testbed.file()
    raw_mmap.map_anonymous(hva, SIZE)
    testbed.read()


def _replaced_by_secret(testbed: Testbed) -> None:
    try:
        fd = libc.syscall(_MEMFD_SECRET, os.O_CLOEXEC)
    except OSError:
        raise SkippedError(
            "this kernel has no memfd_secret: it needs CONFIG_SECRETMEM, and secretmem.enable=1"
        ) from None
    testbed.own(fd)
    os.ftruncate(fd, SIZE)
    raw_mmap.map_file(testbed.anonymous(), SIZE, fd)
    testbed.read()


def _truncated(testbed: Testbed) -> None:
    _, fd = testbed.file()
    os.ftruncate(fd, 0)
    testbed.read()


def _poisoned(testbed: Testbed) -> None:
    hva = testbed.anonymous()
    poke(hva, b"lost")
    # The kernel forces a SIGBUS on whoever asks for this, and ends a process without a handler.
    before = signal.signal(signal.SIGBUS, lambda *_: None)
    try:
        raw_mmap.advise(hva, PAGE_SIZE, _MADV_HWPOISON)
    except OSError as error:
        raise SkippedError(
            f"MADV_HWPOISON: {os.strerror(error.errno or 0)}: it needs root, and a kernel with "
            "CONFIG_MEMORY_FAILURE"
        ) from None
    finally:
        signal.signal(signal.SIGBUS, before)
    testbed.read()


def _guest_memfd(testbed: Testbed) -> GuestMemfd:
    """A guest_memfd that may be mapped, which arm64 wants for every memslot."""
    vm = testbed.machine.vm
    if not vm.check(KVM_CAP_GUEST_MEMFD):
        raise SkippedError("this kernel has no guest_memfd (KVM_CAP_GUEST_MEMFD is 0)")
    try:
        memfd = vm.create_guest_memfd(SIZE, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)
    except IoctlError as error:
        if error.errno != errno.EINVAL:
            raise
        raise SkippedError("this kernel's guest_memfd cannot be mapped") from None
    return memfd


def _guest_memfd_closed(testbed: Testbed) -> None:
    memfd = _guest_memfd(testbed)
    # Not mapped in this process as well: that would keep the file open.
    testbed.machine.vm.memslots.add(WHERE, None, guest_memfd=memfd)
    testbed.open_window()
    memfd.close()
    testbed.read()


def _guest_memfd_punched(testbed: Testbed) -> None:
    memfd = _guest_memfd(testbed)
    memory = testbed.keep(Mapping.of_file(memfd.fileno(), SIZE))
    testbed.machine.vm.memslots.add(WHERE, memory, guest_memfd=memfd)
    testbed.open_window()
    memfd.populate(0, SIZE)
    memfd.punch(0, SIZE)
    testbed.read()


def _outside(testbed: Testbed) -> None:
    testbed.open_window()
    testbed.read()


def _read_only_slot(testbed: Testbed) -> None:
    memory = testbed.keep(Mapping.anonymous(SIZE))
    testbed.machine.vm.memslots.add(WHERE, memory, readonly=True)
    testbed.open_window()
    testbed.write()


class Register:
    """A device that reads as its offset."""

    def read(self, offset: int, size: int) -> int:
        return offset

    def write(self, offset: int, size: int, value: int) -> None:
        pass


def register(testbed: Testbed) -> None:
    """Put a device of the VMM's at `WHERE`."""
    testbed.machine.mmio.attach(WHERE, SIZE, Register())
    testbed.open_window()


PROVOCATIONS = (
    Provocation("anonymous-unmapped", "munmap of anonymous memory", "hva-unmapped", _unmapped),
    Provocation("file-unmapped", "munmap of a file's memory", "hva-unmapped", _unmapped_file),
    Provocation("no-access", "mprotect(PROT_NONE)", "hva-no-access", _no_access),
    Provocation("read-only", "mprotect(PROT_READ), then a write", "hva-read-only", _read_only),
    Provocation(
        "replaced-by-memory",
        "mmap(MAP_FIXED) of anonymous memory over a file's",
        None,  # the guest goes on with the other memory, and no one is told
        _replaced_by_memory,
    ),
    Provocation(
        "replaced-by-secret-memory",
        "mmap(MAP_FIXED) of a memfd_secret over anonymous memory",
        "vma-replaced",
        _replaced_by_secret,
    ),
    Provocation("truncated", "ftruncate of the file behind it", "file-truncated", _truncated),
    Provocation(
        "poisoned",
        "madvise(MADV_HWPOISON)",
        "hardware-poison",
        _poisoned,
        harm="takes a page of the host's memory out of use until it is booted again",
    ),
    Provocation(
        "guest-memfd-closed", "close of the guest_memfd", "guest-memfd-closed", _guest_memfd_closed
    ),
    Provocation(
        "guest-memfd-punched",
        "a hole punched into the guest_memfd",
        None,  # the kernel allocates the page again
        _guest_memfd_punched,
    ),
    Provocation("outside", "a read where no memslot is", "outside-memslots", _outside),
    Provocation(
        "read-only-slot", "a write to a read-only memslot", "outside-memslots", _read_only_slot
    ),
)
