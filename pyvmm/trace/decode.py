# SPDX-License-Identifier: GPL-2.0-only
"""An ioctl by its number and its fd: its name, and its argument on the way in and out."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pyvmm.trace.details import DETAILS, Context
from pyvmm.trace.symbols import symbol_of
from pyvmm.trace.values import Names, Values, plain, size_of
from pyvmm.uapi import iommufd, kvm, native_arch, vfio
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.layout import Struct

Read = Callable[[int, int], bytes]  # (address, size) → what of it can be read


def _ioctls() -> Iterator[Ioctl]:
    for module in (kvm, native_arch.module, vfio, iommufd):
        for value in vars(module).values():
            if isinstance(value, Ioctl):
                yield value


# Some numbers are two ioctls: vfio's by fd (VFIO_BASE + 12 and on), KVM's by architecture.
_BY_FD: dict[tuple[int, str], Ioctl] = {
    (int(ioctl), kind): ioctl for ioctl in _ioctls() for kind in ioctl.fds
}
_BY_NUMBER: dict[int, Ioctl] = {int(ioctl): ioctl for ioctl in reversed(list(_ioctls()))}
NAMES = {ioctl.name for ioctl in _BY_FD.values()}
_DIRECTIONS = ("_IO", "_IOW", "_IOR", "_IOWR")


def find(number: int, kind: str) -> Ioctl | None:
    """The ioctl that `number` is on an fd of this kind; None where the headers have none."""
    return _BY_FD.get((number, kind)) or _BY_NUMBER.get(number)


def name_of(number: int, kind: str) -> str:
    """Its name; an unknown one as the C macro that gives its number."""
    if ioctl := find(number, kind):
        return ioctl.name
    direction, type_ = _DIRECTIONS[number >> 30 & 3], number >> 8 & 0xFF
    return f"{direction}({type_:#x}, {number & 0xFF:#x}, {number >> 16 & 0x3FFF} bytes)"


@dataclass
class Decoded:
    """What an ioctl says.

    Attributes:
        argument: what user space passed.
        returned: which members the kernel changed.
        details: what the argument leads to: a register's name and value, a chain of capabilities.
        names: the headers' names of numbers, by their place: "argument.flags".
        unread: what could not be read, in words; "" where all could.
    """

    argument: Values = field(default_factory=dict)
    returned: Values = field(default_factory=dict)
    details: Values = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    unread: str = ""


class Argument:
    """One ioctl's argument, read before the call and once more after it."""

    def __init__(self, ioctl: Ioctl, value: int, read: Read, device: str) -> None:
        """`device` is the kind of fd, or an in-kernel device's name."""
        self.ioctl = ioctl
        self._device = device
        self._value = value
        self._read = read
        self._before = self._load()

    def before(self, names: Names) -> Values:
        """What user space passes, member by member, and into `names` what its numbers are."""
        if self.ioctl.argument is not None:
            return _values(self.ioctl.argument, self._before, names, "")
        if symbol := symbol_of(self.ioctl.name, self._value):
            names["argument"] = symbol
        return {"argument": self._value} if self._value or symbol else {}

    def finish(self, failed: bool) -> Decoded:
        """After the call: all there is to say."""
        kind, name = self.ioctl.argument, self.ioctl.name
        decoded = Decoded()
        if kind is None:
            symbols: Names = {}
            decoded.argument = self.before(symbols)
            decoded.names = {f"argument.{at}": symbol for at, symbol in symbols.items()}
        else:
            # KVM_SET_IRQCHIP and its like say _IOR, wrongly, since their first day.
            reads = self.ioctl.direction == "read" and not name.startswith("KVM_SET_")
            if not reads:
                decoded.argument = _values(kind, self._before, decoded.names, "argument.")
            if reads or (self.ioctl.direction in ("read-write", "none") and not failed):
                after = _values(kind, self._load(), decoded.names, "returned.")
                decoded.returned = _changed({} if reads else decoded.argument, after)
            decoded.unread = self._unread()
        if details := DETAILS.get(name):
            found = details(Context(self._before, self._value, self._read, failed, self._device))
            decoded.details = found.values
            if found.instead:
                decoded.argument.pop(found.instead, None)
            decoded.names |= {f"details.{at}": symbol for at, symbol in found.names.items()}
        return decoded

    def _load(self) -> bytes:
        kind = self.ioctl.argument
        if kind is None or not self._value:
            return b""
        size = ctypes.sizeof(kind)
        data = self._read(self._value, size)
        if len(data) == size and issubclass(kind, Struct) and (whole := size_of(kind, data)) > size:
            data = self._read(self._value, whole)
        return data

    def _unread(self) -> str:
        kind = self.ioctl.argument
        if kind is None or (not self._value and not ctypes.sizeof(kind)):
            return ""
        wanted = ctypes.sizeof(kind)
        if issubclass(kind, Struct):
            wanted = size_of(kind, self._before)
        if len(self._before) >= wanted:
            return ""
        return (
            f"of the {wanted} bytes at {self._value:#x} only {len(self._before)} can be read"
            if self._before
            else f"the {wanted} bytes at {self._value:#x} cannot be read"
        )


def _values(kind: type[Any], data: bytes, names: Names, at: str) -> Values:
    if issubclass(kind, Struct):
        found: Names = {}
        values = plain(kind, data, found)
        names |= {f"{at}{place}": symbol for place, symbol in found.items()}
        return values
    return {"value": kind.from_buffer_copy(data).value} if len(data) >= ctypes.sizeof(kind) else {}


def _changed(before: Values, after: Values) -> Values:
    return {name: value for name, value in after.items() if before.get(name) != value}
