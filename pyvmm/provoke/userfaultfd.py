# SPDX-License-Identifier: GPL-2.0-only
"""userfaultfd(2), as far as provocations need it. Addresses and sizes are in bytes."""

import errno
import os
import struct
from fcntl import ioctl
from typing import Self

from pyvmm import libc
from pyvmm.closeable import Closeable
from pyvmm.errors import SkippedError
from pyvmm.memory import PAGE_SIZE

# linux/userfaultfd.h
SIGBUS = 1 << 7  # UFFD_FEATURE_SIGBUS
POISON = 1 << 14  # UFFD_FEATURE_POISON
WRITE_PROTECT = 1 << 0  # UFFD_FEATURE_PAGEFAULT_FLAG_WP
MISSING, WP, MINOR = 1, 2, 4  # UFFDIO_REGISTER_MODE_*
USER_MODE_ONLY = 1

_API = 0xAA
_NUMBERS = {"x86_64": 323, "aarch64": 282}  # of the system call


def _iowr(number: int, size: int) -> int:
    return 3 << 30 | size << 16 | _API << 8 | number


_UFFDIO_API = _iowr(0x3F, 24)
_UFFDIO_REGISTER = _iowr(0x00, 32)
_UFFDIO_ZEROPAGE = _iowr(0x04, 32)
_UFFDIO_WRITEPROTECT = _iowr(0x06, 24)
_UFFDIO_POISON = _iowr(0x08, 32)


class Userfaultfd(Closeable):
    """A userfaultfd of this process, which nobody reads."""

    def __init__(self, features: int = 0, flags: int = 0) -> None:
        """Create one with `features`. Raises `SkippedError` if this kernel does not have them."""
        try:
            self._fd = libc.syscall(
                _NUMBERS[os.uname().machine], os.O_CLOEXEC | os.O_NONBLOCK | flags
            )
        except OSError as error:
            raise SkippedError(
                f"userfaultfd: {os.strerror(error.errno or 0)}: it needs CONFIG_USERFAULTFD, and "
                "root or the sysctl vm.unprivileged_userfaultfd=1"
            ) from None
        try:
            self._ioctl(_UFFDIO_API, "QQQ", _API, features, 0)
        except OSError as error:
            self.close()
            if error.errno != errno.EINVAL:
                raise
            raise SkippedError(f"this kernel's userfaultfd has no features {features:#x}") from None

    def register(self, hva: int, size: int, mode: int) -> Self:
        """Watch a range (``UFFDIO_REGISTER``); `mode` is `MISSING`, `WP` or `MINOR`."""
        self._ioctl(_UFFDIO_REGISTER, "QQQQ", hva, size, mode, 0)
        return self

    def write_protect(self, hva: int, size: int = PAGE_SIZE) -> None:
        """Write-protect a range (``UFFDIO_WRITEPROTECT``)."""
        self._ioctl(_UFFDIO_WRITEPROTECT, "QQQ", hva, size, 1)

    def poison(self, hva: int, size: int = PAGE_SIZE) -> None:
        """Poison missing pages (``UFFDIO_POISON``)."""
        self._ioctl(_UFFDIO_POISON, "QQQq", hva, size, 0, 0)

    def zero(self, hva: int, size: int = PAGE_SIZE) -> None:
        """Resolve missing pages as zero (``UFFDIO_ZEROPAGE``), and wake who waits for them."""
        self._ioctl(_UFFDIO_ZEROPAGE, "QQQq", hva, size, 0, 0)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._fd

    def close(self) -> None:
        """Close it, which unregisters its ranges and wakes who waits. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _ioctl(self, number: int, layout: str, *values: int) -> None:
        ioctl(self._fd, number, bytearray(struct.pack(layout, *values)))
