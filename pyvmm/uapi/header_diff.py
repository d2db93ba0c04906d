# SPDX-License-Identifier: GPL-2.0-only
"""The differences of two kernels' headers, and which of them break programs.

A change is additive if a program written for the first headers compiles and works with the second
ones: a new name, a new member in former padding or in a struct that has a field for its own size,
a bound or a mask that grew. All other changes are breaking: a name that was removed, a member that
moved, another number.

Three differences are not changes. Padding is ignored. A struct without a name in C is identified
by its place, ``kvm_run.mmio``, and stays the same struct when it gets a name. Two types are equal
if their bytes are.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pyvmm.uapi.emit import member_name
from pyvmm.uapi.model import Definition, Header, Member, StructLayout

Kind = Literal["capability", "exit", "ioctl", "constant", "struct", "member"]

_KINDS: tuple[Kind, ...] = ("capability", "exit", "ioctl", "constant", "struct", "member")
_PADDING = re.compile(r"_*(pad(ding)?|reserved|resv|rsvd|unused|empty)\d*_*", re.IGNORECASE)
_BOUND = re.compile(r"_(MAX|LAST|NR|NUM|NUM_\w+|MASK|VALID_\w+)(_|$)")


@dataclass(frozen=True)
class Change:
    """One name whose definition differs."""

    kind: Kind
    name: str  # that of a member follows its struct's: "kvm_run.memory_fault"
    before: Definition | None  # a number for a constant; None if the name is new
    after: Definition | None  # None if the name was removed
    breaking: bool

    @property
    def change(self) -> Literal["appeared", "went", "changed"]:
        """Return "appeared" for a new name, "went" for a removed one, else "changed"."""
        if self.before is None:
            return "appeared"
        return "went" if self.after is None else "changed"


def diff(before: Header, after: Header) -> list[Change]:
    """Return the changes, sorted by kind and then in the headers' order."""
    changes = [*_constants(before, after), *_ioctls(before, after), *_structs(before, after)]
    return sorted(changes, key=lambda change: _KINDS.index(change.kind))


def contradictions(one: Header, other: Header) -> list[Change]:
    """Return the changed definitions that are breaking in both directions."""
    backwards = {change.name for change in diff(other, one) if change.breaking}
    return [
        change
        for change in diff(one, other)
        if change.change == "changed" and change.breaking and change.name in backwards
    ]


def across(
    before: Mapping[str, Header], after: Mapping[str, Header]
) -> dict[Change, tuple[str, ...]]:
    """Return the changes for the architectures in both, each with its architectures."""
    found: dict[Change, tuple[str, ...]] = {}
    for architecture in sorted(before.keys() & after.keys()):
        for change in diff(before[architecture], after[architecture]):
            found[change] = (*found.get(change, ()), architecture)
    ordered = sorted(found, key=lambda change: _KINDS.index(change.kind))
    return {change: found[change] for change in ordered}


def kind_of(constant: str, names: Mapping[str, object]) -> Kind:
    """Return the kind of a constant; `names` contains the constants of its header."""
    if constant.startswith("KVM_CAP_"):
        return "capability"
    # KVM_EXIT_IO_OUT is a value in the payload of KVM_EXIT_IO.
    parts = constant.split("_")
    above = ("_".join(parts[:length]) for length in range(3, len(parts)))
    if constant.startswith("KVM_EXIT_") and not any(name in names for name in above):
        return "exit"
    return "constant"


def _constants(before: Header, after: Header) -> Iterator[Change]:
    names = before.constants | after.constants
    for name in names:
        one = before.constants[name].value if name in before.constants else None
        other = after.constants[name].value if name in after.constants else None
        if one != other:
            breaking = other is None or (one is not None and not _grew(name, one, other))
            yield Change(kind_of(name, names), name, one, other, breaking)


def _grew(name: str, before: int, after: int) -> bool:
    """Return True if a constant is a bound or a mask of valid bits, and now allows more."""
    if not _BOUND.search(name):
        return False
    return after & before == before if "MASK" in name or "VALID" in name else after > before


def _ioctls(before: Header, after: Header) -> Iterator[Change]:
    for name in before.ioctls | after.ioctls:
        one, other = before.ioctls.get(name), after.ioctls.get(name)
        if one is None or other is None:
            yield Change("ioctl", name, one, other, breaking=other is None)
        elif one.number != other.number or not _alike(one.argument, other.argument, before, after):
            yield Change("ioctl", name, one, other, breaking=True)


def _structs(before: Header, after: Header) -> Iterator[Change]:
    places_before, places_after = places(before), places(after)
    for name in before.structs | after.structs:
        one, other = before.structs.get(name), after.structs.get(name)
        if one and other:
            place = places_after.get(name) or places_before.get(name, name)
            yield from struct_changes(one, other, before, after, place)
        elif name not in (places_before if one else places_after):
            yield Change("struct", name, one, other, breaking=other is None)


def struct_changes(
    one: StructLayout, other: StructLayout, before: Header, after: Header, place: str
) -> Iterator[Change]:
    """Yield the changes from one struct to another; `place` is the name to report for it."""
    if one.size != other.size:
        breaking = one.size > other.size or not _may_grow(other, before, after)
        yield Change("struct", place, one, other, breaking)
    olds, news = _by_name(one), _by_name(other)
    for name in olds | news:
        old, new = olds.get(name), news.get(name)
        if old is None or new is None:
            yield Change("member", f"{place}.{name}", old, new, breaking=new is None)
        elif _where(old) != _where(new) or not _alike(old.type, new.type, before, after):
            yield Change("member", f"{place}.{name}", old, new, breaking=True)


def _may_grow(struct: StructLayout, before: Header, after: Header) -> bool:
    """Return True if a struct may grow without breaking programs.

    Either the struct starts with its own size, in VFIO's argsz or iommufd's size. Or no ioctl takes
    it, and the structs that contain it kept their sizes.
    """
    first = next((member for member in struct.members if member.offset == 0), None)
    if first is not None and first.name in ("argsz", "size") and first.type == "u32":
        return True
    holders = [
        each for each in after.structs.values() if struct.name in (m.type for m in each.members)
    ]
    sizes = {name: each.size for name, each in before.structs.items()}
    taken = any(ioctl.argument == struct.name for ioctl in after.ioctls.values())
    return bool(holders) and not taken and all(sizes.get(h.name, h.size) == h.size for h in holders)


def places(header: Header) -> dict[str, str]:
    """Return the places of structs without a name in C: "kvm_run_mmio" → "kvm_run.mmio"."""
    found: dict[str, str] = {}
    for struct in reversed(header.structs.values()):  # a struct follows the types of its members
        for member in struct.members:
            if member.type == f"{struct.name}_{member.name}":
                found[member.type] = f"{found.get(struct.name, struct.name)}.{member.name}"
    return found


def _by_name(struct: StructLayout) -> dict[str, Member]:
    names = {member_name(member): member for member in struct.members}
    return {name: member for name, member in names.items() if not _PADDING.fullmatch(name)}


def _where(member: Member) -> tuple[object, ...]:
    return member.counts, member.offset, member.bit, member.width


def _alike(one: str | None, other: str | None, before: Header, after: Header) -> bool:
    """Return True if two types have the same bytes, or are both a struct with the same layout."""
    if _bytes(one) == _bytes(other):
        return True
    old, new = before.structs.get(one or ""), after.structs.get(other or "")
    return (
        old is not None and new is not None and not any(struct_changes(old, new, before, after, ""))
    )


def _bytes(type: str | None) -> str | None:
    return "u64" if type == "ptr" else type
