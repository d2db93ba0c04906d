# SPDX-License-Identifier: GPL-2.0-only
"""Helpers for tests that compose headers."""

from pyvmm.uapi.header_set import HeaderSet
from pyvmm.uapi.model import Constant, Header, IoctlDefinition, Member, StructLayout
from pyvmm.uapi.native_arch import architecture

# A member's C type and offset, for those that are no array: "u32@8".
Members = dict[str, str]


def struct(name: str, size: int, members: Members) -> StructLayout:
    return StructLayout(name, size, tuple(member(*each) for each in members.items()))


def member(name: str, place: str) -> Member:
    """Return a member from ``"u64[2][]@8"``."""
    kind, _, offset = place.partition("@")
    kind, *counts = kind.replace("]", "").split("[")
    return Member(name, kind, tuple(int(count or 0) for count in counts), int(offset))


def header(
    constants: dict[str, int] | None = None,
    structs: tuple[StructLayout, ...] = (),
    ioctls: tuple[IoctlDefinition, ...] = (),
    version: str = "7.2.12",
) -> Header:
    return Header(
        version,
        {name: Constant(name, value, str(value)) for name, value in (constants or {}).items()},
        {each.name: each for each in structs},
        {each.name: each for each in ioctls},
    )


def kvm_header_set(kvm: Header) -> HeaderSet:
    """Return a header set of the running machine's architecture with this header only."""
    return HeaderSet(kvm.version, architecture, {"kvm": kvm})
