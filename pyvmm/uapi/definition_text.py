# SPDX-License-Identifier: GPL-2.0-only
"""A definition of a header as text for a table, and as plain values for JSON."""

from typing import Any

from pyvmm.uapi.model import Definition, IoctlDefinition, Member, StructLayout


def words(definition: Definition | None) -> str:
    """Return a definition's value or layout: "24 bytes", "u64[16] at 32"; "-" for None."""
    match definition:
        case None:
            return "-"
        case int():
            return str(definition) if -10000 < definition < 10000 else f"{definition:#x}"
        case IoctlDefinition():
            return f"{definition.number:#x}" + (
                f", {definition.argument}" if definition.argument else ""
            )
        case StructLayout():
            return f"{definition.size} bytes"
        case Member():
            bits = (
                f", bits {definition.bit}-{definition.bit + definition.width - 1}"
                if definition.width
                else ""
            )
            return f"{type_of(definition)} at {definition.offset}{bits}"


def type_of(member: Member) -> str:
    """Return a member's type with its array lengths: "u8[3][2]", "u64[]" (flexible)."""
    return member.type + "".join(f"[{count or ''}]" for count in member.counts)


def document(definition: Definition | None) -> Any:
    """Return a definition for JSON: a number, or an object of numbers and names; None for None."""
    match definition:
        case IoctlDefinition():
            return {"number": definition.number, "argument": definition.argument}
        case StructLayout():
            return {"size": definition.size}
        case Member():
            place = {
                "type": definition.type,
                "counts": list(definition.counts),
                "offset": definition.offset,
            }
            return place | (
                {"bit": definition.bit, "width": definition.width} if definition.width else {}
            )
    return definition
