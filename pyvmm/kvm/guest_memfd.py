# SPDX-License-Identifier: GPL-2.0-only
"""guest_memfd: a file of guest memory that belongs to one VM."""

import os

from pyvmm import libc
from pyvmm.ioctl import Fd

_FALLOC_FL_KEEP_SIZE = 0x01  # linux/falloc.h
_FALLOC_FL_PUNCH_HOLE = 0x02


class GuestMemfd(Fd):
    """Made by `Vm.create_guest_memfd`, its `owner`; `size` in bytes.

    A memslot refers to a part of it (`Memslots.add`), and keeps referring after it is closed:
    then the guest's next access to a page that it has not touched yet is a memory fault.
    """

    kind = "guest_memfd"

    def __init__(self, number: int, size: int, flags: int, owner: Fd) -> None:
        super().__init__(number)
        os.set_inheritable(number, False)  # KVM leaves O_CLOEXEC out, here alone
        self.size = size
        self.flags = flags
        self.owner = owner

    def punch(self, offset: int, size: int) -> None:
        """Give the pages of a range back (``FALLOC_FL_PUNCH_HOLE``); they read as zero after.

        `offset` and `size` are in bytes. Raises `OSError`.
        """
        self._fallocate(_FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, size)

    def populate(self, offset: int, size: int) -> None:
        """Allocate the pages of a range now. Raises `OSError`."""
        self._fallocate(_FALLOC_FL_KEEP_SIZE, offset, size)

    def _fallocate(self, mode: int, offset: int, size: int) -> None:
        libc.fallocate(self.fileno(), mode, offset, size)
