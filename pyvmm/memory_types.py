# SPDX-License-Identifier: GPL-2.0-only
"""The arm64 memory types: their names and their encodings in stage 1 and stage 2 (DDI 0487)."""

DEVICE = ("Device-nGnRnE", "Device-nGnRE", "Device-nGRE", "Device-GRE")  # by two-bit encoding
DEVICE_NGNRNE, DEVICE_NGNRE, _, _ = DEVICE
NORMAL_NC = "Normal-NC"
NORMAL_WT = "Normal-WT"
NORMAL_WB = "Normal-WB"
TAGGED = "Normal-WB tagged"
RESERVED = "reserved"

# The MAIR_EL1 attribute bytes for guest page tables. Normal-WB allocates on reads and writes.
MAIR_ATTRIBUTES = {DEVICE_NGNRE: 0x04, NORMAL_NC: 0x44, NORMAL_WB: 0xFF}

# MAIR_EL1 attributes that are not an outer and an inner nibble. The XS attribute (FEAT_XS)
# decides which TLBIs wait for an access; it is not part of the name.
_SINGLE = {0x40: NORMAL_NC, 0xA0: NORMAL_WT, 0xF0: TAGGED}

_STAGE2_NORMAL = {0b01: NORMAL_NC, 0b10: NORMAL_WT, 0b11: NORMAL_WB}
_STAGE2_FORCED = {0b101: NORMAL_NC, 0b110: NORMAL_WB, 0b111: "as stage 1 says"}


def stage1_type(attribute: int) -> str:
    """Return the name of an eight-bit MAIR_EL1 attribute, such as ``Device-nGnRE``.

    The name leaves out allocation and transient hints. If outer and inner cacheability differ, it
    has both. DDI 0487, D24.2, MAIR_EL1.
    """
    if attribute in _SINGLE:
        return _SINGLE[attribute]
    outer, inner = attribute >> 4, attribute & 0b1111
    if outer == 0:
        return RESERVED if inner & 0b10 else DEVICE[inner >> 2]
    if inner == 0:
        return RESERVED
    return _normal(_stage1_normal(outer), _stage1_normal(inner))


def stage2_type(attribute: int, *, fwb: bool) -> str:
    """Return the name of a four-bit stage-2 MemAttr (D8.6.5, or D8.6.6 with HCR_EL2.FWB)."""
    if fwb:
        # Bit 3 is reserved unless MTE's stage-2 control is on. KVM leaves it 0.
        if not attribute & 0b0100:
            return RESERVED if attribute & 0b1000 else DEVICE[attribute & 0b11]
        return _STAGE2_FORCED.get(attribute & 0b0111, RESERVED)
    outer, inner = attribute >> 2, attribute & 0b11
    if outer == 0:
        return DEVICE[inner]
    if inner == 0:
        return RESERVED
    return _normal(_STAGE2_NORMAL[outer], _STAGE2_NORMAL[inner])


def _stage1_normal(nibble: int) -> str:
    if nibble == 0b0100:
        return NORMAL_NC
    return NORMAL_WB if nibble & 0b0100 else NORMAL_WT


def _normal(outer: str, inner: str) -> str:
    if outer == inner:
        return outer
    return "Normal outer {} inner {}".format(
        *(name.removeprefix("Normal-") for name in (outer, inner))
    )
