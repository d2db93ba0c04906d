# SPDX-License-Identifier: GPL-2.0-only
import errno
import mmap
import os
import signal
import threading

import pytest

from pyvmm import libc

SIZE = mmap.PAGESIZE
_PR_GET_NO_NEW_PRIVS = 39  # linux/prctl.h


def test_a_failing_call_raises_its_errno_with_its_name_and_arguments() -> None:
    with pytest.raises(OSError, match=rf"mprotect\(0x1000, {SIZE:#x}, 1\): ") as failure:
        libc.mprotect(0x1000, SIZE, mmap.PROT_READ)
    assert failure.value.errno == errno.ENOMEM
    assert failure.value.strerror
    assert failure.value.strerror.endswith(os.strerror(errno.ENOMEM))


def test_a_failing_mmap_raises() -> None:
    with pytest.raises(OSError, match=r"mmap\(0, 0, 0, 0, -1, 0\)"):
        libc.mmap(0, 0, 0, 0, -1, 0)


def test_mmap_returns_the_address() -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    hva = libc.mmap(0, SIZE, mmap.PROT_READ, flags, -1, 0)
    libc.madvise(hva, SIZE, mmap.MADV_DONTNEED)
    libc.munmap(hva, SIZE)
    with pytest.raises(OSError, match="madvise") as failure:
        libc.madvise(hva, SIZE, mmap.MADV_DONTNEED)
    assert failure.value.errno == errno.ENOMEM


def test_prctl_returns_its_result() -> None:
    assert libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) in (0, 1)


def test_an_unknown_system_call_is_enosys() -> None:
    with pytest.raises(OSError, match="syscall") as failure:
        libc.syscall(1 << 20, 0)
    assert failure.value.errno == errno.ENOSYS


def test_a_signal_handled_from_any_thread_does_nothing() -> None:
    number = signal.SIGRTMAX
    before = signal.getsignal(number)
    thread = threading.Thread(target=libc.handle_signal, args=(number,))
    thread.start()
    thread.join()
    try:
        libc.tgkill(os.getpid(), threading.get_native_id(), number)
    finally:
        signal.signal(number, before or signal.SIG_DFL)


def test_a_thread_that_does_not_exist_is_not_signalled() -> None:
    with pytest.raises(ProcessLookupError):
        libc.tgkill(os.getpid(), 1, signal.SIGRTMAX)
