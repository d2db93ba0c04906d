# SPDX-License-Identifier: GPL-2.0-only
"""The signal that makes ``KVM_RUN`` return in another thread.

A handled signal makes ``KVM_RUN`` fail with EINTR; without a handler it would kill the process.
The handler is a C library function without effect, because Python can install a handler only in
the main thread. ``immediate_exit`` in ``struct kvm_run`` covers the time before the thread enters
the kernel (Documentation/virt/kvm/api.rst, immediate_exit).
"""

import contextlib
import os
import signal

from pyvmm import libc

STOP_SIGNAL = signal.SIGRTMIN


def install() -> None:
    """Install the handler of `STOP_SIGNAL`. Any thread may call this."""
    libc.handle_signal(STOP_SIGNAL)


def send(thread: int) -> None:
    """Send `STOP_SIGNAL` to thread `thread` (gettid(2)) of this process, if it still exists.

    tgkill(2) reports a thread that has exited; pthread_kill(3) would be undefined.
    """
    with contextlib.suppress(ProcessLookupError):
        libc.tgkill(os.getpid(), thread, STOP_SIGNAL)
