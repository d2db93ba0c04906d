# SPDX-License-Identifier: GPL-2.0-only
"""Memory types by name, from the attribute encodings of MAIR_EL1 (DDI 0487, D24.2, MAIR_EL1)."""

from pyvmm.arch.arm64.bits import bits

DEVICE_NGNRNE = "Device-nGnRnE"
NORMAL_NC = "Normal-NC"
NORMAL_WT = "Normal-WT"
NORMAL_WB = "Normal-WB"
TAGGED = "Normal-WB tagged"
RESERVED = "reserved"

_DEVICE = (DEVICE_NGNRNE, "Device-nGnRE", "Device-nGRE", "Device-GRE")

# Encodings that are not "outer nibble, inner nibble". The XS attribute (FEAT_XS) decides which
# TLBIs wait for an access, not what the access may do: it has no part in the name.
_SINGLE = {0x40: NORMAL_NC, 0xA0: NORMAL_WT, 0xF0: TAGGED}


def memory_type(attribute: int) -> str:
    """The name of an eight-bit MAIR attribute, such as ``Device-nGnRE`` or ``Normal-WB``.

    Allocation hints and the transient hint are left out; where outer and inner cacheability
    differ, both are named.
    """
    if attribute in _SINGLE:
        return _SINGLE[attribute]
    outer, inner = bits(attribute, 7, 4), bits(attribute, 3, 0)
    if outer == 0:
        return RESERVED if inner & 0b10 else _DEVICE[inner >> 2]
    if inner == 0:
        return RESERVED
    if (names := (_normal(outer), _normal(inner)))[0] == names[1]:
        return names[0]
    return "Normal outer {} inner {}".format(*(name.removeprefix("Normal-") for name in names))


def _normal(nibble: int) -> str:
    if nibble == 0b0100:
        return NORMAL_NC
    return NORMAL_WB if nibble & 0b0100 else NORMAL_WT


def indexed(mair: int, index: int) -> str:
    """The name of attribute ``Attr<index>`` (0 to 7) of a MAIR_EL1 value."""
    return memory_type(bits(mair, index * 8 + 7, index * 8))
