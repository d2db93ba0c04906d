# SPDX-License-Identifier: GPL-2.0-only
"""What a header says of one thing, in words for a table and in plain values for JSON."""

from typing import Any

from pyvmm.uapi.model import Definition, IoctlDefinition, Member, StructLayout


def words(thing: Definition | None) -> str:
    """``"24 bytes"``, ``"u64[16] at 32"``: what can differ of a thing; "-" for none."""
    match thing:
        case None:
            return "-"
        case int():
            return str(thing) if -10000 < thing < 10000 else f"{thing:#x}"
        case IoctlDefinition():
            return f"{thing.number:#x}" + (f", {thing.argument}" if thing.argument else "")
        case StructLayout():
            return f"{thing.size} bytes"
        case Member():
            bits = f", bits {thing.bit}-{thing.bit + thing.width - 1}" if thing.width else ""
            return f"{type_of(thing)} at {thing.offset}{bits}"


def type_of(member: Member) -> str:
    """A member's type, as C would have it but for the order: ``"u8[3][2]"``, ``"u64[]"``."""
    return member.type + "".join(f"[{count or ''}]" for count in member.counts)


def document(thing: Definition | None) -> Any:
    """The same for JSON: a number, or an object of numbers and names; None for none."""
    match thing:
        case IoctlDefinition():
            return {"number": thing.number, "argument": thing.argument}
        case StructLayout():
            return {"size": thing.size}
        case Member():
            place = {"type": thing.type, "counts": list(thing.counts), "offset": thing.offset}
            return place | ({"bit": thing.bit, "width": thing.width} if thing.width else {})
    return thing
