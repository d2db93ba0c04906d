# SPDX-License-Identifier: GPL-2.0-only
"""The names of MAIR_EL1 attributes and of stage-2 MemAttr."""

import pytest

from pyvmm.memory_types import MAIR_ATTRIBUTES, stage1_type, stage2_type


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        (0x00, "Device-nGnRnE"),
        (0x04, "Device-nGnRE"),
        (0x08, "Device-nGRE"),
        (0x0C, "Device-GRE"),
        (0x01, "Device-nGnRnE"),  # FEAT_XS
        (0x02, "reserved"),
        (0x40, "Normal-NC"),
        (0x44, "Normal-NC"),
        (0xA0, "Normal-WT"),
        (0xBB, "Normal-WT"),
        (0x33, "Normal-WT"),
        (0xFF, "Normal-WB"),
        (0x77, "Normal-WB"),
        (0xF0, "Normal-WB tagged"),
        (0x4F, "Normal outer NC inner WB"),
        (0xB4, "Normal outer WT inner NC"),
        (0x10, "reserved"),
    ],
)
def test_a_stage1_attribute_has_its_arm_arm_name(attribute: int, name: str) -> None:
    assert stage1_type(attribute) == name


def test_every_attribute_has_a_name() -> None:
    assert all(stage1_type(attribute) for attribute in range(256))


def test_the_attributes_for_guests_have_their_own_names() -> None:
    assert {name: stage1_type(byte) for name, byte in MAIR_ATTRIBUTES.items()} == {
        name: name for name in MAIR_ATTRIBUTES
    }


@pytest.mark.parametrize(
    ("attribute", "plain", "forced"),
    [
        (0b0000, "Device-nGnRnE", "Device-nGnRnE"),
        (0b0001, "Device-nGnRE", "Device-nGnRE"),
        (0b0011, "Device-GRE", "Device-GRE"),
        (0b0100, "reserved", "reserved"),
        (0b0101, "Normal-NC", "Normal-NC"),
        (0b0110, "Normal outer NC inner WT", "Normal-WB"),
        (0b0111, "Normal outer NC inner WB", "as stage 1 says"),
        (0b1010, "Normal-WT", "reserved"),
        (0b1111, "Normal-WB", "as stage 1 says"),
    ],
)
def test_the_meaning_of_memattr_depends_on_fwb(attribute: int, plain: str, forced: str) -> None:
    assert stage2_type(attribute, fwb=False) == plain
    assert stage2_type(attribute, fwb=True) == forced
