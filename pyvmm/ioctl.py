# SPDX-License-Identifier: GPL-2.0-only
"""File descriptors that are owned, the one way to call an ioctl, and the one way it fails."""

import errno as errnos
import fcntl
import os
import warnings

from pyvmm.closeable import Closeable
from pyvmm.errno_names import errno_name
from pyvmm.errors import PyvmmError, Status
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.layout import Struct

Argument = int | Struct

_NO_SUCH_IOCTL = (
    "this kernel does not know it here: try a newer one, or python -m pyvmm lab run --kernel NAME"
)
_LONGEST = 400  # characters of an argument's text in an error; a CPUID table has 30,000


class IoctlError(PyvmmError, OSError):
    """An ioctl failed.

    Attributes:
        errno: the kernel's answer, positive.
        request: which ioctl.
        kind: what sort of file descriptor it was asked of ("system", "vm", "vcpu", …).
        argument: what was passed, still readable field by field.
        why: the reason, where it could be found out; None where the kernel kept it to itself.
    """

    errno: int

    def __init__(
        self, errno: int, request: Ioctl, kind: str, argument: object, why: str | None = None
    ) -> None:
        super().__init__(errno, os.strerror(errno))
        self.request = request
        self.kind = kind
        self.argument = argument
        self.why = why
        if errno == errnos.ENOTTY:  # the machine lacks something, nothing was done wrong
            self.status = Status.LACKING
            self.why = why or _NO_SUCH_IOCTL

    def __str__(self) -> str:
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
    """A file descriptor that this object owns: closed once, by `close`, ``with``, or at the end.

    Subclasses say in `kind` what sort of descriptor it is, in the words of the ioctl tables.
    """

    kind = "file"

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """The descriptor's number. Raises `ValueError` after `close`."""
        if self._number < 0:
            raise ValueError(f"the {self.kind} fd is closed")
        return self._number

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._number < 0

    def ioctl(self, request: Ioctl, argument: Argument = 0) -> int:
        """Call `request` and return the kernel's result (often 0, sometimes a new fd's number).

        A struct is passed by address and the kernel may write to it; an int is passed by value.
        Raises `IoctlError`.
        """
        try:
            return fcntl.ioctl(self.fileno(), request, argument)
        except OSError as error:
            raise IoctlError(error.errno or 0, request, self.kind, argument) from None

    def close(self) -> None:
        """Give the descriptor back; a second call does nothing."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            text = f"unclosed {self.kind} fd {self._number}"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            self.close()
