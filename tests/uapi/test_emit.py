# SPDX-License-Identifier: GPL-2.0-only
"""The emitted module has the definitions of its header."""

import ctypes
from types import SimpleNamespace

import pytest

from pyvmm.uapi import emit
from pyvmm.uapi.model import Constant, Header, IoctlDefinition, Member, StructLayout


def header(
    *constants: Constant,
    structs: tuple[StructLayout, ...] = (),
    ioctls: tuple[IoctlDefinition, ...] = (),
) -> Header:
    return Header(
        "7.2.12",
        {each.name: each for each in constants},
        {each.name: each for each in structs},
        {each.name: each for each in ioctls},
    )


def struct(name: str, member: Member) -> StructLayout:
    return StructLayout(name, 8, (member,))


def run(said: Header) -> SimpleNamespace:
    module: dict[str, object] = {}
    exec(emit.source(said, "A module."), module)
    return SimpleNamespace(**module)


@pytest.mark.parametrize(
    ("value", "text", "written"),
    [
        (243, "243", "243"),
        (2, "(1<<1)", "1 << 1"),
        (8, "(1ULL<<3)", "1 << 3"),
        (1 << 35, "_BITULL(35)", "1 << 35"),
        (-(1 << 31), "(1<<31)", "-0x80000000"),  # what C's int makes of it
        (-1, "-1", "-1"),
        (0xAE, "0xae", "0xAE"),
        (7, "(A|B)", "0x7"),
        (0x95C1BA5E, "BASE", "0x95C1BA5E"),
    ],
)
def test_a_number_is_formatted_as_in_the_header(value: int, text: str, written: str) -> None:
    source = emit.source(header(Constant("NAME", value, text)), "A module.")
    assert f"\nNAME = {written}\n" in source


def test_constants_are_grouped_by_prefix() -> None:
    names = ["A_B_1", "C_D", "A_B_2", "E_F", "G_H"]
    source = emit.source(header(*(Constant(name, 0, "0") for name in names)), "A module.")
    assert "A_B_1 = 0\nA_B_2 = 0\n\nC_D = 0\nE_F = 0\nG_H = 0\n" in source


def test_a_struct_has_its_layout() -> None:
    members = (
        Member("class", "u16", (), 0),
        Member("__reserved", "u8", (2, 3), 2),
        Member("bits", "u8", (), 8, bit=2, width=3),
        Member("pair", "inner", (2,), 12),
    )
    inner = struct("inner", Member("value", "s32", (), 4))
    outer = run(header(structs=(inner, StructLayout("outer", 32, members)))).outer
    assert outer.members == ("class_", "_reserved", "bits", "pair")
    assert ctypes.sizeof(outer) == 32
    assert [getattr(outer, name).offset for name in outer.members] == [0, 2, 8, 12]
    assert bytes(outer(bits=7)).index(7 << 2) == 8


def test_an_ioctl_has_its_fds_and_argument() -> None:
    one_reg = struct("kvm_one_reg", Member("id", "u64", (), 0))
    get = IoctlDefinition("KVM_GET_ONE_REG", 0x4010AEAB, "kvm_one_reg")
    ioctl = run(header(structs=(one_reg,), ioctls=(get,))).KVM_GET_ONE_REG
    assert (ioctl, ioctl.name, ioctl.fds) == (0x4010AEAB, "KVM_GET_ONE_REG", ("vcpu",))
    assert ioctl.argument.__name__ == "kvm_one_reg"


def test_structs_of_the_base_module_are_imported() -> None:
    own = header(structs=(struct("outer", Member("inner", "inner", (), 0)),))
    assert "from base import inner\n" in emit.source(own, "A module.", base="base")
