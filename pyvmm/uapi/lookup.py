# SPDX-License-Identifier: GPL-2.0-only
"""The definition of one name: its facts, its layout, and the kernel release that added it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyvmm.uapi import ioctl_number
from pyvmm.uapi.definition_text import type_of, words
from pyvmm.uapi.fds import fds_of
from pyvmm.uapi.header_diff import Kind, kind_of
from pyvmm.uapi.header_set import HeaderSet
from pyvmm.uapi.model import Definition, Header, IoctlDefinition, Member, StructLayout, size_of


@dataclass(frozen=True)
class Row:
    """One member of a layout; the members of a type without a name in C have rows of their own."""

    offset: int  # bytes from the start of the layout
    size: str  # "4", or "3 bits"
    type: str
    name: str


@dataclass(frozen=True)
class Entry:
    """The facts of a name as text, and the layout of its struct, payload or argument."""

    kind: Kind
    facts: dict[str, str]
    layout: list[Row]


def lookup(name: str, header: Header) -> Definition | None:
    """Return the definition of a constant, an ioctl, a struct or ``STRUCT.MEMBER``, or None."""
    first, *path = name.split(".")
    struct = header.structs.get(first)
    if not path:
        constant = header.constants.get(name)
        return constant.value if constant else header.ioctls.get(name) or struct
    offset, member = 0, None
    for each in path:
        members = struct.members if struct else ()
        member = next((m for m in members if m.name == each), None)
        if member is None:
            return None
        offset += member.offset
        struct = header.structs.get(member.type)
    return member and Member(member.name, member.type, member.counts, offset)


def describe(name: str, header: Header) -> Entry | None:
    """Return the facts and the layout of a name, or None if the header lacks it."""
    match definition := lookup(name, header):
        case int():
            kind = kind_of(name, header.constants)
            facts = {"number": words(definition)}
            payload = f"kvm_run.{name.removeprefix('KVM_EXIT_').lower()}"
            member = lookup(payload, header) if kind == "exit" else None
            if isinstance(member, Member):
                facts["payload"] = f"{payload}, {_size(member, header)} bytes at {member.offset}"
                return Entry(kind, facts, list(_rows(member.type, header)))
            return Entry(kind, facts, [])
        case IoctlDefinition():
            number = ioctl_number.Ioctl(definition.number, name, fds_of(name))
            facts = {
                "number": f"{definition.number:#x}",
                "fd": ", ".join(number.fds) or "unknown",
                "direction": number.direction,
                "argument": _argument(definition, header),
            }
            return Entry("ioctl", facts, list(_rows(definition.argument, header)))
        case StructLayout():
            return Entry("struct", {"size": words(definition)}, list(_rows(name, header)))
        case Member():
            return Entry(
                "member", {"place": words(definition)}, list(_rows(definition.type, header))
            )
    return None


def _argument(ioctl: IoctlDefinition, header: Header) -> str:
    struct = header.structs.get(ioctl.argument or "")
    if struct is not None:
        return f"struct {struct.name}, {words(struct)}"
    return ioctl.argument or "none, or by value"


def _rows(type: str | None, header: Header, base: int = 0, prefix: str = "") -> Iterator[Row]:
    """Yield a struct's members, and after one whose type has no name in C, its members."""
    struct = header.structs.get(type or "")
    for member in sorted(struct.members, key=lambda m: (m.offset, m.bit)) if struct else ():
        name, offset = f"{prefix}{member.name}", base + member.offset
        yield Row(offset, _size(member, header), type_of(member), name)
        if member.type == f"{type}_{member.name}" and not member.counts:
            yield from _rows(member.type, header, offset, f"{name}.")


def _size(member: Member, header: Header) -> str:
    return f"{member.width} bits" if member.width else str(size_of(member, header))


def since(name: str, at_hand: Iterable[HeaderSet]) -> str:
    """Return the kernel release that added a name, as narrowed down by the header sets at hand."""
    releases: dict[tuple[int, int], bool] = {}
    for each in at_hand:
        major, minor = (int(number) for number in re.findall(r"\d+", each.version)[:2])
        has = lookup(name, each.all) is not None
        # A tree under development has names that the release of its number lacks.
        releases[major, minor] = has and releases.get((major, minor), True)
    lacking = [release for release, has in releases.items() if not has]
    having = [release for release, has in releases.items() if has]
    if not lacking:
        return f"unknown: Linux {_text(min(having))}, the oldest at hand, has it"
    before = max(lacking)
    later = [release for release in having if release > before]
    if not later:
        return f"unknown: Linux {_text(before)}, the newest at hand, lacks it"
    (major, minor), first = before, min(later)
    if first == (major, minor + 1):
        return f"Linux {_text(first)}"
    return f"after Linux {_text(before)}, by {_text(first)}"


def _text(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"
