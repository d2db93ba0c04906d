# SPDX-License-Identifier: GPL-2.0-only
"""Faults at ordinary memory: unmapped, protected, replaced, truncated, poisoned, guest_memfd."""

import contextlib
import errno
import os
import signal

from pyvmm import libc
from pyvmm.errors import SkippedError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.peek import poke
from pyvmm.memory.vma import vmas
from pyvmm.provoke import fixed_mmap
from pyvmm.provoke.testbed import TARGET_GPA, TARGET_SIZE, Provocation, Testbed
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_INIT_SHARED,
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_GUEST_MEMFD,
)

_MADV_HWPOISON = 100  # asm-generic/mman-common.h
_MADV_GUARD_INSTALL = 102
_MEMFD_SECRET = 447  # asm-generic/unistd.h; the same number on every architecture


def _unmap_anonymous(testbed: Testbed) -> None:
    hva = testbed.add_anonymous()
    testbed.read(before_run=lambda: libc.munmap(hva, PAGE_SIZE))


def _unmap_file(testbed: Testbed) -> None:
    hva, _ = testbed.add_file()
    testbed.read(before_run=lambda: libc.munmap(hva, PAGE_SIZE))


def _remove_access(testbed: Testbed) -> None:
    libc.mprotect(testbed.add_anonymous(), TARGET_SIZE, PROT_NONE)
    testbed.read()


def _remove_write_access(testbed: Testbed) -> None:
    libc.mprotect(testbed.add_anonymous(), TARGET_SIZE, PROT_READ)
    testbed.write()


def _install_guard(testbed: Testbed) -> None:
    hva = testbed.add_anonymous()
    with contextlib.suppress(OSError):  # EINVAL: an older kernel
        libc.madvise(hva, PAGE_SIZE, _MADV_GUARD_INSTALL)
    if "gu" not in vmas(hva, PAGE_SIZE)[0].flags:
        raise SkippedError("this kernel shows no guard regions in smaps (gu)")
    testbed.read()


def _replace_by_anonymous(testbed: Testbed) -> None:
    hva, _ = testbed.add_file()
    fixed_mmap.map_anonymous(hva, TARGET_SIZE)
    testbed.read()


def _replace_by_secret(testbed: Testbed) -> None:
    try:
        fd = libc.syscall(_MEMFD_SECRET, os.O_CLOEXEC)
    except OSError:
        raise SkippedError(
            "this kernel has no memfd_secret: it needs CONFIG_SECRETMEM, and secretmem.enable=1"
        ) from None
    testbed.stack.callback(os.close, fd)
    os.ftruncate(fd, TARGET_SIZE)
    fixed_mmap.map_file(testbed.add_anonymous(), TARGET_SIZE, fd)
    testbed.read()


def _truncate(testbed: Testbed) -> None:
    _, fd = testbed.add_file()
    os.ftruncate(fd, 0)
    testbed.read()


def _poison(testbed: Testbed) -> None:
    hva = testbed.add_anonymous()
    poke(hva, b"lost")
    # madvise(MADV_HWPOISON) sends this process a SIGBUS, which kills it without a handler.
    before = signal.signal(signal.SIGBUS, lambda *_: None)
    try:
        libc.madvise(hva, PAGE_SIZE, _MADV_HWPOISON)
    except OSError as error:
        raise SkippedError(
            f"MADV_HWPOISON: {os.strerror(error.errno or 0)}: it needs root, and a kernel with "
            "CONFIG_MEMORY_FAILURE"
        ) from None
    finally:
        signal.signal(signal.SIGBUS, before)
    testbed.read()


def _create_guest_memfd(testbed: Testbed) -> GuestMemfd:
    """Create a mappable guest_memfd, the only kind that arm64 accepts in memslots."""
    vm = testbed.machine.vm
    if not vm.check(KVM_CAP_GUEST_MEMFD):
        raise SkippedError("this kernel has no guest_memfd (KVM_CAP_GUEST_MEMFD is 0)")
    try:
        memfd = vm.create_guest_memfd(
            TARGET_SIZE, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED
        )
    except IoctlError as error:
        if error.errno != errno.EINVAL:
            raise
        raise SkippedError("this kernel's guest_memfd cannot be mapped") from None
    return memfd


def _close_guest_memfd(testbed: Testbed) -> None:
    memfd = _create_guest_memfd(testbed)
    # No mapping in this process: it would keep the file open.
    testbed.machine.vm.memslots.add(TARGET_GPA, None, guest_memfd=memfd)
    testbed.map_target()
    memfd.close()
    testbed.read()


def _punch_guest_memfd(testbed: Testbed) -> None:
    memfd = _create_guest_memfd(testbed)
    memory = testbed.stack.enter_context(Mapping.of_file(memfd.fileno(), TARGET_SIZE))
    testbed.machine.vm.memslots.add(TARGET_GPA, memory, guest_memfd=memfd)
    testbed.map_target()
    memfd.populate(0, TARGET_SIZE)
    memfd.punch(0, TARGET_SIZE)
    testbed.read()


def _read_outside_memslots(testbed: Testbed) -> None:
    testbed.map_target()
    testbed.read()


def _write_read_only_slot(testbed: Testbed) -> None:
    memory = testbed.stack.enter_context(Mapping.anonymous(TARGET_SIZE))
    testbed.machine.vm.memslots.add(TARGET_GPA, memory, readonly=True)
    testbed.map_target()
    testbed.write()


class OffsetDevice:
    """An emulated device: a read returns the offset, a write is ignored."""

    def read(self, offset: int, size: int) -> int:
        """Return `offset`."""
        return offset

    def write(self, offset: int, size: int, value: int) -> None:
        """Ignore the write."""


def attach_device(testbed: Testbed) -> None:
    """Attach an emulated device at `TARGET_GPA`."""
    testbed.machine.mmio.attach(TARGET_GPA, TARGET_SIZE, OffsetDevice())
    testbed.map_target()


PROVOCATIONS = (
    Provocation(
        "anonymous-unmapped", "munmap of anonymous memory", "hva-unmapped", _unmap_anonymous
    ),
    Provocation("file-unmapped", "munmap of a file's memory", "hva-unmapped", _unmap_file),
    Provocation("no-access", "mprotect(PROT_NONE)", "hva-no-access", _remove_access),
    Provocation(
        "read-only", "mprotect(PROT_READ), then a write", "hva-read-only", _remove_write_access
    ),
    Provocation("guarded", "madvise(MADV_GUARD_INSTALL)", "guard-region", _install_guard),
    Provocation(
        "replaced-by-memory",
        "mmap(MAP_FIXED) of anonymous memory over a file's",
        None,  # KVM faults in the new memory without a report
        _replace_by_anonymous,
    ),
    Provocation(
        "replaced-by-secret-memory",
        "mmap(MAP_FIXED) of a memfd_secret over anonymous memory",
        "vma-replaced",
        _replace_by_secret,
        # copy_from_user reads what get_user_pages rejects.
        resolved_by="KVM on x86 without hardware virtualization, which emulates the access",
    ),
    Provocation("truncated", "ftruncate of the file behind it", "file-truncated", _truncate),
    Provocation(
        "poisoned",
        "madvise(MADV_HWPOISON)",
        "hardware-poison",
        _poison,
        harm="takes a page of the host's memory out of use until it is booted again",
    ),
    Provocation(
        "guest-memfd-closed", "close of the guest_memfd", "guest-memfd-closed", _close_guest_memfd
    ),
    Provocation(
        "guest-memfd-punched",
        "a hole punched into the guest_memfd",
        None,  # the kernel allocates a new page
        _punch_guest_memfd,
    ),
    Provocation(
        "outside", "a read where no memslot is", "outside-memslots", _read_outside_memslots
    ),
    Provocation(
        "read-only-slot",
        "a write to a read-only memslot",
        "outside-memslots",
        _write_read_only_slot,
    ),
)
