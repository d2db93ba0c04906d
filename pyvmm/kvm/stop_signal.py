# SPDX-License-Identifier: GPL-2.0-only
"""The signal that makes ``KVM_RUN`` return in another thread.

Its handler is a function of the C library's that does nothing. A Python handler could be set in
the main thread only; with no handler at all the signal would end the process. That it is handled
is what makes ``KVM_RUN`` return EINTR; ``immediate_exit`` in ``struct kvm_run`` covers the moment
before the thread is in the kernel (Documentation/virt/kvm/api.rst, immediate_exit).
"""

import ctypes
import os
import signal

STOP_SIGNAL = signal.SIGRTMIN

_libc = ctypes.CDLL(None)
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p
_libc.tgkill.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)


def handle() -> None:
    """Let `STOP_SIGNAL` interrupt ``KVM_RUN`` and do nothing else; from any thread."""
    # abs() takes an int, as a handler does, and touches nothing.
    _libc.signal(STOP_SIGNAL, ctypes.cast(_libc.abs, ctypes.c_void_p))


def send(thread: int) -> None:
    """Send `STOP_SIGNAL` to one of this process's threads, by the kernel's id.

    Nothing happens if it has ended meanwhile, where pthread_kill(3) would be undefined.
    """
    _libc.tgkill(os.getpid(), thread, STOP_SIGNAL)
