# SPDX-License-Identifier: GPL-2.0-only
"""dtc(1) is the oracle: it compiles the same tree from source to the same bytes."""

from pyvmm.linux.device_tree import Node, quad
from tests.linux.conftest import Dtc

SOURCE = b"""
/dts-v1/;
/ {
    #address-cells = <2>;
    #size-cells = <2>;
    compatible = "one,board", "two";
    flag;
    bytes = [01 02 03];
    none {
    };
    memory@80000000 {
        device_type = "memory";
        reg = <0x0 0x80000000 0x1 0x0>;
        deeper {
            flag;
            phandle = <0x7>;
        };
    };
};
"""


def test_tree_as_dtc_compiles_it(dtc: Dtc) -> None:
    tree = Node(
        "",
        {
            "#address-cells": 2,
            "#size-cells": 2,
            "compatible": ("one,board", "two"),
            "flag": (),
            "bytes": b"\1\2\3",
        },
        (
            Node("none", {}),
            Node(
                "memory@80000000",
                {"device_type": "memory", "reg": quad(0x8000_0000, 1 << 32)},
                (Node("deeper", {"flag": (), "phandle": 7}),),
            ),
        ),
    )
    assert tree.to_bytes() == dtc(SOURCE, "dts", "dtb")


def test_quad_splits_64_bits() -> None:
    assert quad(0x1_0000_0002, 3) == (1, 2, 0, 3)
