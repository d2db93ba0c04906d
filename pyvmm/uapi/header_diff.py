# SPDX-License-Identifier: GPL-2.0-only
"""What changed between two kernels' headers, and whether it breaks what was made for the first.

A change is additive when a program made for the first header set compiles and works with the
second: new names, new members where there was padding or where a struct says its own size, a
bound or a mask that grew. All else is breaking: what went, moved, or has another number.

What only looks changed is left out. Padding is nobody's. A struct without a name in C goes by
its place, ``kvm_run.mmio``, so it is the same one when it gets a name; and one type is another
where their bytes are the same.
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
    """One name that is not what it was."""

    kind: Kind
    name: str  # a member's has its struct's before it: "kvm_run.memory_fault"
    before: Definition | None  # a number where it is a constant; None: it appeared
    after: Definition | None  # None: it went
    breaking: bool

    @property
    def change(self) -> Literal["appeared", "went", "changed"]:
        if self.before is None:
            return "appeared"
        return "went" if self.after is None else "changed"


def diff(before: Header, after: Header) -> list[Change]:
    """Return the changes, by kind, and those of a kind in the headers' order."""
    changes = [*_constants(before, after), *_ioctls(before, after), *_structs(before, after)]
    return sorted(changes, key=lambda change: _KINDS.index(change.kind))


def contradictions(one: Header, other: Header) -> list[Change]:
    """Return the definitions that both have, of which neither is the other with an addition."""
    backwards = {change.name for change in diff(other, one) if change.breaking}
    return [
        change
        for change in diff(one, other)
        if change.change == "changed" and change.breaking and change.name in backwards
    ]


def across(
    before: Mapping[str, Header], after: Mapping[str, Header]
) -> dict[Change, tuple[str, ...]]:
    """Return the changes of the architectures that both have, each with those it is for."""
    found: dict[Change, tuple[str, ...]] = {}
    for architecture in sorted(before.keys() & after.keys()):
        for change in diff(before[architecture], after[architecture]):
            found[change] = (*found.get(change, ()), architecture)
    ordered = sorted(found, key=lambda change: _KINDS.index(change.kind))
    return {change: found[change] for change in ordered}


def kind_of(constant: str, names: Mapping[str, object]) -> Kind:
    """Whether a constant is a capability's number or an exit's; `names` has its header's others."""
    if constant.startswith("KVM_CAP_"):
        return "capability"
    # KVM_EXIT_IO_OUT is about KVM_EXIT_IO's payload.
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
    """Whether a constant is a bound, or a mask of what is valid, and now lets more through."""
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
    """Yield how one struct of a header became another; `place` is what it goes by."""
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
    """Whether a struct can have more members with nobody the worse for it.

    Either the caller tells the kernel how much of it there is, in VFIO's argsz or iommufd's size;
    or no ioctl takes it and what holds it left room, and is as large as it was.
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
    """Return where in another the structs without a name are: "kvm_run_mmio" → "kvm_run.mmio"."""
    found: dict[str, str] = {}
    for struct in reversed(header.structs.values()):  # a struct comes after what it is made of
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
    """Whether two types have the same bytes. Of one name they count as one, told of by itself."""
    if _bytes(one) == _bytes(other):
        return True
    old, new = before.structs.get(one or ""), after.structs.get(other or "")
    return (
        old is not None and new is not None and not any(struct_changes(old, new, before, after, ""))
    )


def _bytes(type: str | None) -> str | None:
    return "u64" if type == "ptr" else type
