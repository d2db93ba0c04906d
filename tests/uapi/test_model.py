# SPDX-License-Identifier: GPL-2.0-only
"""split separates the definitions that two architectures share from the rest."""

from pyvmm.uapi.model import Constant, Header, IoctlDefinition, Member, StructLayout, split


def architecture(type_: str, value: int) -> Header:
    """Return a header whose struct regs and one constant depend on the arguments."""
    structs = (
        StructLayout("same", 8, (Member("a", "u64", (), 0),)),
        StructLayout("regs", 8, (Member("a", type_, (), 0),)),
        StructLayout("run", 8, (Member("regs", "regs", (), 0),)),
    )
    return Header(
        "7.2.12",
        {"SAME": Constant("SAME", 1, "1"), "OTHER": Constant("OTHER", value, "")},
        {struct.name: struct for struct in structs},
        {
            "KVM_RUN": IoctlDefinition("KVM_RUN", 1, None),
            "KVM_GET_REGS": IoctlDefinition("KVM_GET_REGS", 2, "run"),
        },
    )


def test_a_difference_separates_everything_that_contains_it() -> None:
    common, first, second = split(architecture("u64", 1), architecture("s64", 2))
    assert (list(common.constants), list(common.structs)) == (["SAME"], ["same"])
    assert list(common.ioctls) == ["KVM_RUN"]
    for own in (first, second):
        assert (list(own.constants), list(own.structs)) == (["OTHER"], ["regs", "run"])
        assert list(own.ioctls) == ["KVM_GET_REGS"]


def test_a_definition_of_one_architecture_stays_with_it() -> None:
    one = architecture("u64", 1)
    other = Header("7.2.12", {}, {}, {})
    assert split(one, other) == (other, one, other)


def test_equal_headers_are_shared_completely() -> None:
    one = architecture("u64", 1)
    empty = Header("7.2.12", {}, {}, {})
    assert split(one, one) == (one, empty, empty)
