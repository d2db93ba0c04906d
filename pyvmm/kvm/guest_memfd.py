# SPDX-License-Identifier: GPL-2.0-only
"""guest_memfd: an anonymous file of guest memory that belongs to one VM."""

import os

from pyvmm import libc
from pyvmm.ioctl import Fd

_FALLOC_FL_KEEP_SIZE = 0x01  # linux/falloc.h
_FALLOC_FL_PUNCH_HOLE = 0x02


class GuestMemfd(Fd):
    """A guest_memfd, created by `Vm.create_guest_memfd`.

    A memslot can be bound to part of it (`Memslots.add`) and stays bound after the file is closed;
    then the guest's next access is a memory fault.

    Attributes:
        size: in bytes.
        flags: ``GUEST_MEMFD_FLAG_*``.
        owner: the VM.
    """

    kind = "guest_memfd"

    def __init__(self, number: int, size: int, flags: int, owner: Fd) -> None:
        """Own fd `number`, a guest_memfd of the VM `owner`."""
        super().__init__(number)
        os.set_inheritable(number, False)  # KVM_CREATE_GUEST_MEMFD does not set O_CLOEXEC
        self.size = size
        self.flags = flags
        self.owner = owner

    def punch(self, offset: int, size: int) -> None:
        """Free the pages of a range; they read as zero afterwards.

        ``FALLOC_FL_PUNCH_HOLE``; `offset` and `size` are in bytes. Raises `OSError`.
        """
        self._fallocate(_FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, size)

    def populate(self, offset: int, size: int) -> None:
        """Allocate the pages of a range (bytes). Raises `OSError`."""
        self._fallocate(_FALLOC_FL_KEEP_SIZE, offset, size)

    def _fallocate(self, mode: int, offset: int, size: int) -> None:
        libc.fallocate(self.fileno(), mode, offset, size)
