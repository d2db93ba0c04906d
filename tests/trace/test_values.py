# SPDX-License-Identifier: GPL-2.0-only
import ctypes

from hypothesis import given
from hypothesis import strategies as st

from pyvmm.trace.values import Names, is_union, struct_size, struct_values
from pyvmm.uapi import iommufd, kvm, native_arch, vfio
from pyvmm.uapi.layout import Struct

STRUCTS = [
    value
    for module in (kvm, native_arch.module, vfio, iommufd)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Struct) and value.members
]


@given(st.sampled_from(STRUCTS), st.binary(max_size=256))
def test_any_bytes_of_any_struct(kind: type[Struct], data: bytes) -> None:
    values = struct_values(kind, data, {})
    assert set(values) <= set(kind.members)


@given(st.sampled_from(STRUCTS), st.binary(min_size=1, max_size=64))
def test_flexible_array_has_a_limit(kind: type[Struct], data: bytes) -> None:
    assert struct_size(kind, data.ljust(ctypes.sizeof(kind), b"\xff")) <= 4 << 20


def test_incomplete_members_are_omitted() -> None:
    region = bytes(kvm.kvm_userspace_memory_region(slot=3, guest_phys_addr=0x1000))
    assert struct_values(kvm.kvm_userspace_memory_region, region[:20], {}) == {
        "slot": 3,
        "flags": 0,
        "guest_phys_addr": 0x1000,
    }


def test_elements_of_a_flexible_array() -> None:
    table = kvm.kvm_irq_routing.with_room(2)(nr=2)
    table.entries[1].gsi, table.entries[1].type = 9, kvm.KVM_IRQ_ROUTING_MSI
    names: Names = {}
    values = struct_values(kvm.kvm_irq_routing, bytes(table), names)
    assert [route["gsi"] for route in values["entries"]] == [0, 9]  # type: ignore[union-attr,index,call-overload]
    assert names == {"entries[1].type": "KVM_IRQ_ROUTING_MSI"}


def test_zero_padding_is_omitted() -> None:
    bank = kvm.kvm_enable_cap(cap=1)
    assert "pad" not in struct_values(kvm.kvm_enable_cap, bytes(bank), {})


def test_descriptors_are_signed() -> None:
    """KVM's and iommufd's descriptors are __u32 members."""
    irqfd = struct_values(kvm.kvm_irqfd, bytes(kvm.kvm_irqfd(fd=-1, gsi=2**32 - 1)), {})
    assert (irqfd["fd"], irqfd["resamplefd"], irqfd["gsi"]) == (-1, 0, 2**32 - 1)
    region = kvm.kvm_userspace_memory_region2(guest_memfd=2**32 - 1)
    assert struct_values(type(region), bytes(region), {})["guest_memfd"] == -1
    veventq = iommufd.iommu_veventq_alloc(out_veventq_fd=-1)
    assert struct_values(type(veventq), bytes(veventq), {})["out_veventq_fd"] == -1


def test_is_union() -> None:
    assert is_union(kvm.kvm_irq_routing_entry_u)
    assert not is_union(kvm.kvm_one_reg)
