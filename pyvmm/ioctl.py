# SPDX-License-Identifier: GPL-2.0-only
"""Owned file descriptors, ioctls on them, and the exception that a failing ioctl raises."""

import errno as errnos
import fcntl
import os
import warnings

from pyvmm import libc
from pyvmm.closeable import Closeable
from pyvmm.errno_names import errno_name
from pyvmm.errors import PyvmmError, Status
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.layout import Struct

Argument = int | Struct

_NO_SUCH_IOCTL = (
    "this kernel does not have it on this fd: try a newer kernel, or "
    "python -m pyvmm lab run --kernel NAME"
)
_LONGEST = 400  # characters of an argument's text in an error; a CPUID table has 30,000


class IoctlError(PyvmmError, OSError):
    """A failed ioctl.

    Attributes:
        errno: the kernel's errno, positive.
        request: the ioctl.
        kind: the kind of its file descriptor ("system", "vm", "vcpu", …).
        argument: the argument; the fields of a struct can be read.
        why: the reason, or None if it is unknown.
    """

    errno: int

    def __init__(
        self, errno: int, request: Ioctl, kind: str, argument: object, why: str | None = None
    ) -> None:
        """Describe a failure with `errno`; ENOTTY means that the machine lacks the ioctl."""
        super().__init__(errno, os.strerror(errno))
        self.request = request
        self.kind = kind
        self.argument = argument
        self.why = why
        if errno == errnos.ENOTTY:
            self.status = Status.LACKING
            self.why = why or _NO_SUCH_IOCTL

    def __str__(self) -> str:
        """Return one line with the ioctl, the fd's kind, the errno, the reason and the argument."""
        name = errno_name(self.errno)
        text = f"{self.request.name} on the {self.kind} fd: {name} ({self.strerror})"
        if self.why:
            text += f": {self.why}"
        if isinstance(self.argument, Struct):
            argument = str(self.argument)
            text += f" [{argument[:_LONGEST]}{'…' if len(argument) > _LONGEST else ''}]"
        elif self.argument:
            text += f" [argument {self.argument:#x}]"
        return text


class Fd(Closeable):
    """An owned file descriptor, closed by `close`, by ``with``, or with the object.

    Attributes:
        kind: the kind of descriptor, one of `pyvmm.uapi.ioctl_number.FdKind` if it has ioctls.
    """

    kind = "file"

    def __init__(self, number: int) -> None:
        """Take ownership of descriptor `number`."""
        self._number = number

    def fileno(self) -> int:
        """Return the descriptor's number. Raises `ValueError` after `close`."""
        if self._number < 0:
            raise ValueError(f"the {self.kind} fd is closed")
        return self._number

    @property
    def closed(self) -> bool:
        """Return True if `close` was called."""
        return self._number < 0

    def ioctl(self, request: Ioctl, argument: Argument = 0) -> int:
        """Call ioctl(2) and return its result: usually 0, or the number of a new fd.

        A struct is passed by address, and the kernel may write to it. An int is passed by value.
        Raises `IoctlError`.
        """
        try:
            if isinstance(argument, int) and 1 << 31 <= argument < 1 << 64:
                return libc.ioctl(self.fileno(), request, argument)  # fcntl.ioctl takes an int
            return fcntl.ioctl(self.fileno(), request, argument)
        except OSError as error:
            raise IoctlError(error.errno or 0, request, self.kind, argument) from None

    def close(self) -> None:
        """Close the file descriptor. Idempotent."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def __del__(self) -> None:
        """Close a descriptor that is still open, with a `ResourceWarning`."""
        if getattr(self, "_number", -1) >= 0:
            text = f"unclosed {self.kind} fd {self._number}"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            self.close()
