# SPDX-License-Identifier: GPL-2.0-only
"""MAIR attributes by name."""

import pytest

from pyvmm.arch.arm64.memory_type import indexed, memory_type


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
def test_names(attribute: int, name: str) -> None:
    assert memory_type(attribute) == name


def test_every_attribute_has_a_name() -> None:
    assert all(memory_type(attribute) for attribute in range(256))


def test_index() -> None:
    assert indexed(0xFF_44 << 8, 1) == "Normal-NC"
