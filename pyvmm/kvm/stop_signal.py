# SPDX-License-Identifier: GPL-2.0-only
"""The signal that makes ``KVM_RUN`` return in another thread.

Its handler is a function of the C library's that does nothing. A Python handler could be set in
the main thread only; with no handler at all the signal would end the process. That it is handled
is what makes ``KVM_RUN`` return EINTR; ``immediate_exit`` in ``struct kvm_run`` covers the moment
before the thread is in the kernel (Documentation/virt/kvm/api.rst, immediate_exit).
"""

import contextlib
import os
import signal

from pyvmm import libc

STOP_SIGNAL = signal.SIGRTMIN


def handle() -> None:
    """Let `STOP_SIGNAL` interrupt ``KVM_RUN`` and do nothing else; from any thread."""
    libc.handle_signal(STOP_SIGNAL)


def send(thread: int) -> None:
    """Send `STOP_SIGNAL` to one of this process's threads, by the kernel's id.

    Nothing happens if it has ended meanwhile, where pthread_kill(3) would be undefined.
    """
    with contextlib.suppress(ProcessLookupError):
        libc.tgkill(os.getpid(), thread, STOP_SIGNAL)
