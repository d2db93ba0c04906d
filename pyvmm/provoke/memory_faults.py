# SPDX-License-Identifier: GPL-2.0-only
"""Faults at ordinary memory: unmapped, protected, replaced, truncated, poisoned, guest_memfd."""

import errno
import mmap
import os
import signal

from pyvmm import libc
from pyvmm.errors import SkippedError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.exits import Mmio, RunFailure
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.machine import ARGUMENT_BLOCK
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Mapping
from pyvmm.memory.hugetlb_pool import default_size, hugetlb_pool
from pyvmm.memory.pagemap import page_state
from pyvmm.memory.peek import poke
from pyvmm.provoke import detached_tmpfs, fixed_mmap, userfaultfd
from pyvmm.provoke.full_cgroup import FullCgroup
from pyvmm.provoke.testbed import FILE_CONTENT, TARGET_GPA, TARGET_SIZE, Provocation, Testbed
from pyvmm.provoke.userfaultfd import Userfaultfd
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_INIT_SHARED,
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_ARM_MTE,
    KVM_CAP_GUEST_MEMFD,
)

_MADV_HWPOISON = 100  # asm-generic/mman-common.h
_MADV_GUARD_INSTALL = 102
_MAP_FIXED = 0x10  # asm-generic/mman-common.h, as the next ones
_MAP_NORESERVE = 0x4000
_MAP_HUGETLB = 0x40000
# copy_from_user reads what get_user_pages rejects.
_BY_EMULATION = "KVM on x86 without hardware virtualization, which emulates the access"
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
    try:
        libc.madvise(hva, PAGE_SIZE, _MADV_GUARD_INSTALL)
    except OSError:  # EINVAL
        raise SkippedError("this kernel has no MADV_GUARD_INSTALL (Linux 6.13)") from None
    if not page_state(hva).guard:
        raise SkippedError("pagemap shows guard regions since Linux 6.15, and before to root only")
    testbed.read()


def _watch(testbed: Testbed, hva: int, mode: int, features: int = 0, flags: int = 0) -> Userfaultfd:
    """Register the target with a new userfaultfd; the testbed closes it."""
    uffd = testbed.stack.enter_context(Userfaultfd(features, flags))
    return uffd.register(hva, TARGET_SIZE, mode)


def _miss_a_page(testbed: Testbed) -> None:
    _watch(testbed, testbed.add_anonymous(), userfaultfd.MISSING, userfaultfd.SIGBUS)
    testbed.read()


def _miss_a_page_in_user_mode_only(testbed: Testbed) -> None:
    hva = testbed.add_anonymous()
    _watch(testbed, hva, userfaultfd.MISSING, flags=userfaultfd.USER_MODE_ONLY)
    testbed.read()


def _write_protect(testbed: Testbed) -> None:
    hva = testbed.add_anonymous()
    poke(hva, FILE_CONTENT)
    features = userfaultfd.SIGBUS | userfaultfd.WRITE_PROTECT
    _watch(testbed, hva, userfaultfd.WP, features).write_protect(hva)
    testbed.write()


def _poison_by_userfaultfd(testbed: Testbed) -> None:
    hva = testbed.add_anonymous()
    _watch(testbed, hva, userfaultfd.MISSING, userfaultfd.POISON).poison(hva)
    testbed.read()


def _add_hole(testbed: Testbed, fd: int) -> None:
    """Register a file with a hole as large as the target."""
    testbed.stack.callback(os.close, fd)
    os.ftruncate(fd, TARGET_SIZE)
    memory = testbed.stack.enter_context(Mapping.of_file(fd, TARGET_SIZE))
    testbed.machine.vm.memslots.add(TARGET_GPA, memory)
    testbed.map_target()


def _fill_file_system(testbed: Testbed) -> None:
    root = detached_tmpfs.create(TARGET_SIZE)
    testbed.stack.callback(os.close, root)
    _add_hole(testbed, os.open("hole", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, dir_fd=root))
    rest = os.open("rest", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=root)
    testbed.stack.callback(os.close, rest)
    os.write(rest, bytes(TARGET_SIZE))
    testbed.read()


def _use_up_huge_pages(testbed: Testbed) -> None:
    size = default_size()
    if not hugetlb_pool(size).empty:
        raise SkippedError("the pool of huge pages is not empty: echo 0 >/proc/sys/vm/nr_hugepages")
    memory = testbed.stack.enter_context(Mapping(size, align=size))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED | _MAP_HUGETLB | _MAP_NORESERVE
    libc.mmap(memory.hva, size, PROT_READ | PROT_WRITE, flags, -1, 0)
    testbed.machine.vm.memslots.add(TARGET_GPA, memory)
    testbed.map_target()
    testbed.read()


def _use_up_cgroup(testbed: Testbed) -> None:
    if testbed.machine.vm.host.may_protect_guests:
        raise SkippedError(
            "in protected mode, KVM allocates for each access, and any may fail: see cgroup-full"
        )
    _add_hole(testbed, os.memfd_create("pyvmm-guest-memory", os.MFD_CLOEXEC))
    testbed.read(ARGUMENT_BLOCK)  # KVM then has the memory for its own tables
    _read_in_full_cgroup(testbed)


def _use_up_cgroup_before_first_run(testbed: Testbed) -> None:
    testbed.add_anonymous()
    _read_in_full_cgroup(testbed)


def _read_in_full_cgroup(testbed: Testbed) -> None:
    group = testbed.stack.enter_context(FullCgroup())
    handlers = dict(testbed.machine.handlers)
    for kind in (RunFailure, Mmio):  # x86 exits with Mmio
        handlers[kind] = group.relieved(handlers[kind])
    testbed.machine.handlers = handlers
    for gpa in range(TARGET_GPA, TARGET_GPA + TARGET_SIZE, PAGE_SIZE):
        testbed.read(gpa, before_run=group.fill)
        if testbed.machine.faults.records:  # else the kernel reclaimed a page in time
            break


def _replace_by_anonymous(testbed: Testbed) -> None:
    hva, _ = testbed.add_file()
    fixed_mmap.map_anonymous(hva, TARGET_SIZE)
    testbed.read()


def _create_secret(testbed: Testbed) -> int:
    """Create a memfd_secret and return its fd."""
    try:
        fd = libc.syscall(_MEMFD_SECRET, os.O_CLOEXEC)
    except OSError:
        raise SkippedError(
            "this kernel has no memfd_secret: it needs CONFIG_SECRETMEM, and secretmem.enable=1"
        ) from None
    testbed.stack.callback(os.close, fd)
    os.ftruncate(fd, TARGET_SIZE)
    return fd


def _replace_by_secret(testbed: Testbed) -> None:
    fd = _create_secret(testbed)
    fixed_mmap.map_file(testbed.add_anonymous(), TARGET_SIZE, fd)
    testbed.read()


def _register_secret(testbed: Testbed) -> None:
    fd = _create_secret(testbed)
    memory = testbed.stack.enter_context(Mapping.of_file(fd, TARGET_SIZE))
    testbed.machine.vm.memslots.add(TARGET_GPA, memory)
    testbed.map_target()
    testbed.read()


def _truncate(testbed: Testbed) -> None:
    _, fd = testbed.add_file()
    os.ftruncate(fd, 0)
    testbed.read()


def _replace_by_memory_without_tags(testbed: Testbed) -> None:
    testbed.enable(KVM_CAP_ARM_MTE, "KVM_CAP_ARM_MTE: in the lab, --cpu max+mte")
    hva = testbed.add_anonymous()
    program = os.open("/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    testbed.stack.callback(os.close, program)
    fixed_mmap.map_file(hva, TARGET_SIZE, program, private=True)
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
        "userfault",
        "a userfaultfd with UFFD_FEATURE_SIGBUS watches it",
        "userfaultfd-missing",
        _miss_a_page,
    ),
    Provocation(
        "userfault-user-mode",
        "a userfaultfd with UFFD_USER_MODE_ONLY watches it",
        "userfaultfd-missing",
        _miss_a_page_in_user_mode_only,
    ),
    Provocation(
        "userfault-wp",
        "UFFDIO_WRITEPROTECT with UFFD_FEATURE_SIGBUS, then a write",
        "userfaultfd-wp",
        _write_protect,
    ),
    Provocation("userfault-poison", "UFFDIO_POISON", "poison-marker", _poison_by_userfaultfd),
    Provocation(
        "tmpfs-full", "a hole in a file, and its tmpfs full", "file-system-full", _fill_file_system
    ),
    Provocation(
        "hugetlb-empty",
        "hugetlb memory with MAP_NORESERVE, and no free huge page",
        "hugetlb-pool-empty",
        _use_up_huge_pages,
    ),
    Provocation(
        "cgroup-full",
        "a first run, and the control group at its memory.max",
        "memory-cgroup-limit",
        _use_up_cgroup_before_first_run,
    ),
    Provocation(
        "cgroup-full-page",
        "a hole in a file, and the control group at its memory.max",
        "memory-cgroup-limit",
        _use_up_cgroup,
    ),
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
        resolved_by=_BY_EMULATION,
    ),
    Provocation(
        "secret-memory",
        "a memslot over a memfd_secret",
        "secret-memory",
        _register_secret,
        resolved_by=_BY_EMULATION,
    ),
    Provocation(
        "replaced-by-untagged-memory",
        "mmap(MAP_FIXED) of a program's file over anonymous memory, with KVM_CAP_ARM_MTE",
        "memory-tagging",
        _replace_by_memory_without_tags,
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
