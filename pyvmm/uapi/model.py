# SPDX-License-Identifier: GPL-2.0-only
"""The definitions of a header as plain, comparable values: constants, structs and ioctls.

`pyvmm.uapi.headers` reads them from a header, `pyvmm.uapi.emit` writes them as Python source.
"""

import math
from dataclasses import dataclass, field, replace

from pyvmm.errors import UsageError

# The types of members that are not structs: C's integers by size, and a pointer.
SCALARS = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "ptr")


class HeaderError(UsageError):
    """Kernel headers that are missing, cannot be read, or cannot be used."""


@dataclass(frozen=True)
class Constant:
    """A macro or an enum member with an integer value."""

    name: str
    value: int
    text: str = field(compare=False)  # as the header spells it


@dataclass(frozen=True)
class Member:
    """A member of a struct. The members of an anonymous member are members of the struct."""

    name: str
    type: str  # one of SCALARS, or a struct's name
    counts: tuple[int, ...]  # an array's lengths, outermost first; 0 is a flexible array
    offset: int  # bytes
    bit: int = 0
    width: int = 0  # bits; 0 if it is not a bit-field


@dataclass(frozen=True)
class StructLayout:
    """A struct or a union. One without a name in C is called after its parent and its member."""

    name: str
    size: int  # bytes
    members: tuple[Member, ...]


@dataclass(frozen=True)
class IoctlDefinition:
    """An ioctl's number and the type of its argument, None if it takes no pointer."""

    name: str
    number: int
    argument: str | None


# The definition of a name in a header; a constant is its number.
Definition = int | IoctlDefinition | StructLayout | Member


@dataclass(frozen=True)
class Header:
    """The definitions of one header for one architecture, in the header's order."""

    version: str  # of the kernel, "7.2.12"
    constants: dict[str, Constant]
    structs: dict[str, StructLayout]
    ioctls: dict[str, IoctlDefinition]


def size_of(member: Member, header: Header) -> int:
    """Return the size of a member in bytes; that of a bit-field is the size of its type."""
    struct = header.structs.get(member.type)
    size = struct.size if struct else 8 if member.type == "ptr" else int(member.type[1:]) // 8
    return size * math.prod(member.counts)


def split(first: Header, second: Header) -> tuple[Header, Header, Header]:
    """Return the definitions that two architectures share, and the rest of each.

    A struct is shared if the structs of its members are, an ioctl if its argument is.
    """
    common = Header(
        version=first.version,
        constants={n: c for n, c in first.constants.items() if second.constants.get(n) == c},
        structs={n: s for n, s in first.structs.items() if _alike(n, first, second)},
        ioctls={
            name: ioctl
            for name, ioctl in first.ioctls.items()
            if second.ioctls.get(name) == ioctl and _alike(ioctl.argument, first, second)
        },
    )
    return common, _without(first, common), _without(second, common)


def _alike(type: str | None, first: Header, second: Header) -> bool:
    """Return True if a type and the types of its members are the same in both."""
    one, other = first.structs.get(type or ""), second.structs.get(type or "")
    return one == other and (one is None or all(_alike(m.type, first, second) for m in one.members))


def _without(header: Header, common: Header) -> Header:
    return replace(
        header,
        constants={n: c for n, c in header.constants.items() if n not in common.constants},
        structs={n: s for n, s in header.structs.items() if n not in common.structs},
        ioctls={n: i for n, i in header.ioctls.items() if n not in common.ioctls},
    )
