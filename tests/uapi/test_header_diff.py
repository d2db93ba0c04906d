# SPDX-License-Identifier: GPL-2.0-only
"""diff returns all changes between two headers and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.uapi.header_diff import Change, across, diff, kind_of
from pyvmm.uapi.model import Header, IoctlDefinition, Member, StructLayout
from tests.uapi.header_samples import Members, header, struct

SLOT: Members = {"slot": "u32@0", "flags": "u32@4", "pad": "u64[2]@8"}


def changes(before: Header, after: Header) -> list[tuple[str, str, str, bool]]:
    return [(c.kind, c.name, c.change, c.breaking) for c in diff(before, after)]


@pytest.mark.parametrize(
    ("name", "before", "after", "expected"),
    [
        ("KVM_CAP_FOO", None, 244, ("capability", "appeared", False)),
        ("KVM_CAP_FOO", 244, None, ("capability", "went", True)),
        ("KVM_CAP_FOO", 244, 245, ("capability", "changed", True)),
        ("KVM_EXIT_FOO", None, 44, ("exit", "appeared", False)),
        ("KVM_MEM_FOO", 8, 16, ("constant", "changed", True)),
        ("KVM_DEV_TYPE_MAX", 11, 12, ("constant", "changed", False)),
        ("KVM_DEV_TYPE_MAX", 12, 11, ("constant", "changed", True)),
        ("VFIO_AP_NUM_IRQS", 1, 2, ("constant", "changed", False)),
        ("KVM_FOO_VALID_MASK", 0b011, 0b111, ("constant", "changed", False)),
        ("KVM_FOO_VALID_MASK", 0b011, 0b110, ("constant", "changed", True)),
    ],
)
def test_constants(
    name: str, before: int | None, after: int | None, expected: tuple[str, str, bool]
) -> None:
    one = header({} if before is None else {name: before})
    other = header({} if after is None else {name: after})
    [change] = diff(one, other)
    assert (change.kind, change.change, change.breaking) == expected
    assert (change.name, change.before, change.after) == (name, before, after)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KVM_EXIT_IO", "exit"),
        ("KVM_EXIT_IO_OUT", "constant"),
        ("KVM_CAP_IRQFD_RESAMPLE", "capability"),
        ("KVM_MEMORY_EXIT_FLAG_PRIVATE", "constant"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name, {"KVM_EXIT_IO": 2, "KVM_CAP_IRQFD": 32, name: 0}) == kind


@pytest.mark.parametrize(
    ("size", "members", "expected"),
    [
        (24, {**SLOT, "foo": "u64@8", "pad": "u64@16"}, [("member", "r.foo", "appeared", False)]),
        (24, {"slot": "u32@0", "pad": "u64[2]@8"}, [("member", "r.flags", "went", True)]),
        (24, {**SLOT, "flags": "u16@4"}, [("member", "r.flags", "changed", True)]),
        (24, {**SLOT, "flags": "s32@4"}, [("member", "r.flags", "changed", True)]),
        (24, {**SLOT, "flags": "u32[1]@4"}, [("member", "r.flags", "changed", True)]),
        (32, {**SLOT, "flags": "u32@8"},
         [("struct", "r", "changed", True), ("member", "r.flags", "changed", True)]),
        (24, {**SLOT, "pad": "u8[16]@8"}, []),
        (24, {**SLOT, "reserved2": "u64@8"}, []),
    ],
)  # fmt: skip
def test_a_struct_of_24_bytes(
    size: int, members: Members, expected: list[tuple[str, str, str, bool]]
) -> None:
    before = header(structs=(struct("r", 24, SLOT),))
    assert changes(before, header(structs=(struct("r", size, members),))) == expected


def test_bit_fields_move() -> None:
    old, new = (StructLayout("s", 4, (Member("b", "u32", (), 0, bit, 3),)) for bit in (0, 3))
    assert changes(header(structs=(old,)), header(structs=(new,))) == [
        ("member", "s.b", "changed", True)
    ]


@pytest.mark.parametrize(
    ("first", "breaking"), [("argsz", False), ("size", False), ("flags", True), ("_size", True)]
)
def test_a_struct_with_its_own_size_may_grow(first: str, breaking: bool) -> None:
    small, large = (struct("s", size, {first: "u32@0"}) for size in (8, 16))
    assert changes(header(structs=(small,)), header(structs=(large,))) == [
        ("struct", "s", "changed", breaking)
    ]
    assert changes(header(structs=(large,)), header(structs=(small,))) == [
        ("struct", "s", "changed", True)
    ]


@pytest.mark.parametrize(
    ("holder", "ioctl", "breaking"), [(64, None, False), (72, None, True), (64, "inner", True)]
)
def test_a_struct_may_grow_within_its_container(
    holder: int, ioctl: str | None, breaking: bool
) -> None:
    ioctls = (IoctlDefinition("KVM_SET", 1, ioctl),)
    before = header(
        structs=(struct("inner", 8, {}), struct("s", 64, {"u": "inner@0"})), ioctls=ioctls
    )
    after = header(
        structs=(struct("inner", 16, {}), struct("s", holder, {"u": "inner@0"})), ioctls=ioctls
    )
    assert ("struct", "inner", "changed", breaking) in changes(before, after)


def test_a_struct_without_a_name_is_identified_by_its_place() -> None:
    run = struct("run", 64, {"mmio": "run_mmio@0"})
    before = header(structs=(struct("run_mmio", 8, {"gpa": "u64@0"}), run))
    after = header(structs=(struct("run_mmio", 8, {"gpa": "u64@0", "len": "u32@4"}), run))
    assert changes(before, after) == [("member", "run.mmio.len", "appeared", False)]
    assert changes(header(), before) == [("struct", "run", "appeared", False)]


def test_a_struct_that_gets_a_name_stays_the_same_member() -> None:
    members: Members = {"gpa": "u64@0"}
    before = header(
        structs=(struct("run_tdx", 8, members), struct("run", 64, {"tdx": "run_tdx@0"}))
    )
    after = header(structs=(struct("kvm_tdx", 8, members), struct("run", 64, {"tdx": "kvm_tdx@0"})))
    assert changes(before, after) == [("struct", "kvm_tdx", "appeared", False)]
    assert changes(after, before) == [("struct", "kvm_tdx", "went", True)]


@pytest.mark.parametrize(
    ("number", "argument", "expected"),
    [
        (1, "s", []),
        (1, "same", []),
        (2, "s", [("ioctl", "KVM_SET", "changed", True)]),
        (1, "other", [("ioctl", "KVM_SET", "changed", True)]),
        (1, None, [("ioctl", "KVM_SET", "changed", True)]),
    ],
)
def test_ioctls(
    number: int, argument: str | None, expected: list[tuple[str, str, str, bool]]
) -> None:
    structs = (struct("s", 8, SLOT), struct("same", 8, SLOT), struct("other", 8, {"a": "u64@0"}))
    before = header(structs=structs, ioctls=(IoctlDefinition("KVM_SET", 1, "s"),))
    after = header(structs=structs, ioctls=(IoctlDefinition("KVM_SET", number, argument),))
    assert changes(before, after) == expected


def test_a_member_renamed_for_python_is_the_same_member() -> None:
    c = header(structs=(struct("s", 16, {"__flags": "u64@0", "in": "ptr@8"}),))
    python = header(structs=(struct("s", 16, {"_flags": "u64@0", "in_": "u64@8"}),))
    assert changes(c, python) == []


def test_a_change_of_two_architectures_is_reported_once() -> None:
    foo, bar = header({"KVM_CAP_FOO": 1}), header({"KVM_CAP_FOO": 1, "KVM_ARM_BAR": 2})
    found = across(
        {"arm64": header(), "x86_64": header(), "riscv": foo}, {"arm64": bar, "x86_64": foo}
    )
    assert {change.name: architectures for change, architectures in found.items()} == {
        "KVM_CAP_FOO": ("arm64", "x86_64"),
        "KVM_ARM_BAR": ("arm64",),
    }


# Names are few, so that two headers often have the same; a struct "s_u" is member u of struct s.
kinds = st.sampled_from(["u8", "u32", "u64", "s32", "ptr", "s_u"])
members = st.builds(
    lambda kind, count, offset: f"{kind}{count}@{offset}",
    kinds, st.sampled_from(["", "[2]", "[]"]), st.integers(0, 24),
)  # fmt: skip
layouts = st.dictionaries(st.sampled_from(["u", "size", "flags", "__x", "pad", "in"]), members)
leaves = st.builds(
    struct,
    st.just("s_u"),
    st.integers(0, 40),
    st.dictionaries(st.sampled_from(["a", "b"]), st.just("u32@0")),
)
structs = st.builds(struct, st.sampled_from(["s", "t"]), st.integers(0, 40), layouts)
constants = st.dictionaries(
    st.sampled_from(["KVM_CAP_A", "KVM_CAP_B", "KVM_EXIT_A", "KVM_EXIT_A_B", "KVM_A_MAX"]),
    st.integers(0, 3),
)
ioctls = st.lists(
    st.builds(
        IoctlDefinition,
        st.sampled_from(["KVM_SET", "KVM_GET"]),
        st.integers(0, 3),
        st.sampled_from([None, "u32", "s", "t"]),
    ),
    max_size=2,
).map(tuple)
headers = st.builds(
    lambda constants, leaf, structs, ioctls: header(constants, (leaf, *structs), ioctls),
    constants, leaves, st.lists(structs, max_size=2), ioctls,
)  # fmt: skip


@given(headers)
def test_a_header_does_not_differ_from_itself(one: Header) -> None:
    assert diff(one, one) == []


@given(headers, headers)
def test_a_reversed_diff_swaps_appeared_and_went(one: Header, other: Header) -> None:
    def facts(change: Change) -> tuple[object, ...]:
        return change.kind, change.name, change.before, change.after

    forwards = {facts(change) for change in diff(one, other)}
    backwards = {facts(change) for change in diff(other, one)}
    assert forwards == {(kind, name, a, b) for kind, name, b, a in backwards}


@given(headers, headers)
def test_every_change_has_two_different_sides(one: Header, other: Header) -> None:
    for change in diff(one, other):
        assert change.before != change.after
        assert change.breaking or change.change != "went"
        assert not (change.breaking and change.change == "appeared")
