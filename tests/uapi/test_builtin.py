# SPDX-License-Identifier: GPL-2.0-only
"""The generated modules have the definitions of the headers they were generated from."""

from pathlib import Path

import pytest

from pyvmm.uapi import header_set
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.header_diff import diff
from pyvmm.uapi.header_tree import ARCHITECTURES
from pyvmm.uapi.model import IoctlDefinition, Member


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_definition_is_lost(architecture: str, headers: Path, libclang: None) -> None:
    assert diff(header_set.read(headers, architecture).all, builtin(architecture).all) == []


@pytest.mark.parametrize(
    ("struct", "member"),
    [
        ("kvm_run", Member("exit_reason", "u32", (), 8)),
        ("kvm_run", Member("mmio", "kvm_run_mmio", (), 32)),
        ("kvm_cpuid2", Member("entries", "kvm_cpuid_entry2", (0,), 8)),
        ("kvm_fpu", Member("xmm", "u8", (16, 16), 152)),
        ("kvm_ioapic_state_redirtbl_fields", Member("dest_mode", "u8", (), 1, bit=3, width=1)),
        ("iommu_ioas_iova_ranges", Member("_reserved", "u32", (), 12)),
    ],
)
def test_members(struct: str, member: Member) -> None:
    assert member in builtin("x86_64").all.structs[struct].members


def test_ioctls() -> None:
    ioctls = builtin("arm64").all.ioctls
    assert ioctls["KVM_RUN"] == IoctlDefinition("KVM_RUN", 0xAE80, None)
    assert ioctls["KVM_GET_ONE_REG"] == IoctlDefinition(
        "KVM_GET_ONE_REG", 0x4010AEAB, "kvm_one_reg"
    )
    assert ioctls["VFIO_GROUP_SET_CONTAINER"].argument == "s32"


@pytest.mark.parametrize(
    ("architecture", "module", "name"),
    [
        ("arm64", "kvm", "KVM_REG_ARM64"),
        ("arm64", "kvm", "KVM_ARM_VCPU_INIT"),
        ("x86_64", "kvm", "KVM_GET_MSRS"),
        ("x86_64", "vfio", "VFIO_DEVICE_RESET"),
        ("arm64", "iommufd", "IOMMU_IOAS_MAP"),
    ],
)
def test_names_belong_to_their_header_and_architecture(
    architecture: str, module: str, name: str
) -> None:
    header = builtin(architecture).headers[module]
    assert name in {**header.constants, **header.ioctls}
