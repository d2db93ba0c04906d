# SPDX-License-Identifier: GPL-2.0-only
"""One name of a header: what it is, where its members are, and which kernel brought it."""

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
    """One member of a layout, those of members without a type name of their own included."""

    offset: int  # bytes from the start of what is shown
    size: str  # "4", or "3 bits"
    type: str
    name: str


@dataclass(frozen=True)
class Entry:
    """What a name is: facts as words, and the layout of its struct or its argument."""

    kind: Kind
    facts: dict[str, str]
    layout: list[Row]


def lookup(name: str, header: Header) -> Definition | None:
    """Return what a name stands for: a constant, an ioctl, a struct, or ``STRUCT.MEMBER``."""
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
    """Return what there is to say about a name; None where the header does not have it."""
    match thing := lookup(name, header):
        case int():
            kind = kind_of(name, header.constants)
            facts = {"number": words(thing)}
            payload = f"kvm_run.{name.removeprefix('KVM_EXIT_').lower()}"
            member = lookup(payload, header) if kind == "exit" else None
            if isinstance(member, Member):
                facts["payload"] = f"{payload}, {_size(member, header)} bytes at {member.offset}"
                return Entry(kind, facts, list(_rows(member.type, header)))
            return Entry(kind, facts, [])
        case IoctlDefinition():
            number = ioctl_number.Ioctl(thing.number, name, fds_of(name))
            facts = {
                "number": f"{thing.number:#x}",
                "fd": ", ".join(number.fds) or "not known",
                "direction": number.direction,
                "argument": _argument(thing, header),
            }
            return Entry("ioctl", facts, list(_rows(thing.argument, header)))
        case StructLayout():
            return Entry("struct", {"size": words(thing)}, list(_rows(name, header)))
        case Member():
            return Entry("member", {"place": words(thing)}, list(_rows(thing.type, header)))
    return None


def _argument(ioctl: IoctlDefinition, header: Header) -> str:
    struct = header.structs.get(ioctl.argument or "")
    if struct is not None:
        return f"struct {struct.name}, {words(struct)}"
    return ioctl.argument or "none, or by value"


def _rows(type: str | None, header: Header, base: int = 0, prefix: str = "") -> Iterator[Row]:
    """Yield a struct's members, and in place of one whose type has no name in C, its members."""
    struct = header.structs.get(type or "")
    for member in sorted(struct.members, key=lambda m: (m.offset, m.bit)) if struct else ():
        name, offset = f"{prefix}{member.name}", base + member.offset
        yield Row(offset, _size(member, header), type_of(member), name)
        if member.type == f"{type}_{member.name}" and not member.counts:
            yield from _rows(member.type, header, offset, f"{name}.")


def _size(member: Member, header: Header) -> str:
    return f"{member.width} bits" if member.width else str(size_of(member, header))


def since(name: str, at_hand: Iterable[HeaderSet]) -> str:
    """Say which kernel release brought a name, as far as the header sets at hand tell."""
    releases: dict[tuple[int, int], bool] = {}
    for each in at_hand:
        major, minor = (int(number) for number in re.findall(r"\d+", each.version)[:2])
        has = lookup(name, each.all) is not None
        # A tree under development has what its release does not have yet.
        releases[major, minor] = has and releases.get((major, minor), True)
    lacking = [release for release, has in releases.items() if not has]
    having = [release for release, has in releases.items() if has]
    if not lacking:
        return f"not known: Linux {_text(min(having))}, the oldest at hand, has it"
    before = max(lacking)
    later = [release for release in having if release > before]
    if not later:
        return f"not known: Linux {_text(before)}, the newest at hand, does not have it"
    (major, minor), first = before, min(later)
    if first == (major, minor + 1):
        return f"Linux {_text(first)}"
    return f"after Linux {_text(before)}, by {_text(first)}"


def _text(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"
