# SPDX-License-Identifier: GPL-2.0-only
"""Facts of a name come from its headers; its release is reported only if it is certain."""

import pytest

from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.lookup import Entry, Row, describe, since
from tests.uapi.header_samples import header, kvm_header_set


def entry(name: str) -> Entry:
    found = describe(name, builtin("arm64").all)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "kind", "facts"),
    [
        ("KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED", "capability", {"number": "243"}),
        ("KVM_EXIT_INTR", "exit", {"number": "10"}),
        ("KVM_MEM_READONLY", "constant", {"number": "2"}),
        (
            "KVM_EXIT_MEMORY_FAULT",
            "exit",
            {"number": "39", "payload": "kvm_run.memory_fault, 24 bytes at 32"},
        ),
        (
            "KVM_GET_ONE_REG",
            "ioctl",
            {
                "number": "0x4010aeab",
                "fd": "vcpu",
                "direction": "write",
                "argument": "struct kvm_one_reg, 16 bytes",
            },
        ),
        (
            "KVM_RUN",
            "ioctl",
            {
                "number": "0xae80",
                "fd": "vcpu",
                "direction": "none",
                "argument": "none, or by value",
            },
        ),
        ("kvm_one_reg", "struct", {"size": "16 bytes"}),
        ("kvm_run.mmio.len", "member", {"place": "u32 at 48"}),
    ],
)
def test_facts(name: str, kind: str, facts: dict[str, str]) -> None:
    assert (entry(name).kind, entry(name).facts) == (kind, facts)


@pytest.mark.parametrize("name", ["KVM_CAP_FOO", "kvm_run.foo", "kvm_run.mmio.len.foo", ""])
def test_an_unknown_name(name: str) -> None:
    assert describe(name, builtin("arm64").all) is None


def test_the_layout_of_an_argument() -> None:
    assert entry("KVM_GET_ONE_REG").layout == [Row(0, "8", "u64", "id"), Row(8, "8", "u64", "addr")]


def test_a_layout_includes_the_members_of_unnamed_structs() -> None:
    assert entry("kvm_vcpu_events").layout[:3] == [
        Row(0, "16", "kvm_vcpu_events_exception", "exception"),
        Row(0, "1", "u8", "exception.serror_pending"),
        Row(1, "1", "u8", "exception.serror_has_esr"),
    ]


@pytest.mark.parametrize(
    ("releases", "text"),
    [
        ({"6.12.5": 0, "6.13": 1, "7.2.1": 1}, "Linux 6.13"),
        ({"6.1.176": 0, "6.12.5": 1, "7.2.1": 1}, "after Linux 6.1, by 6.12"),
        ({"6.12": 1, "7.2": 1}, "unknown: Linux 6.12, the oldest at hand, has it"),
        ({"6.12": 0, "7.2": 0}, "unknown: Linux 7.2, the newest at hand, lacks it"),
    ],
)
def test_since(releases: dict[str, int], text: str) -> None:
    at_hand = [
        kvm_header_set(header({"KVM_CAP_FOO": 1} if has else {}, version=version))
        for version, has in releases.items()
    ]
    assert since("KVM_CAP_FOO", at_hand) == text
    assert since("KVM_CAP_FOO", reversed(at_hand)) == text


def test_a_tree_under_development_does_not_count_as_its_release() -> None:
    tree, release = header({"KVM_CAP_FOO": 1}, version="7.2.0"), header(version="7.2.12")
    text = since("KVM_CAP_FOO", [kvm_header_set(tree), kvm_header_set(release)])
    assert text == "unknown: Linux 7.2, the newest at hand, lacks it"
