# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.decode import find, name_of
from pyvmm.trace.events import Event, Ioctl
from pyvmm.uapi import kvm, vfio
from tests.trace.conftest import Traces


def ioctl(events: list[Event], name: str) -> Ioctl:
    """The last ioctl of that name."""
    return [e for e in events if isinstance(e, Ioctl) and e.name == name][-1]


@pytest.mark.parametrize(
    ("number", "kind", "name"),
    [
        (0xAE80, "vcpu", "KVM_RUN"),
        (int(vfio.VFIO_IOMMU_MAP_DMA), "vfio-container", "VFIO_IOMMU_MAP_DMA"),
        (int(vfio.VFIO_DEVICE_PCI_HOT_RESET), "vfio-device", "VFIO_DEVICE_PCI_HOT_RESET"),
        (int(kvm.KVM_GET_ONE_REG), "vcpu", "KVM_GET_ONE_REG"),
        (0xC008AEFF, "vm", "_IOWR(0xae, 0xff, 8 bytes)"),
        (0xAEFE, "", "_IO(0xae, 0xfe, 0 bytes)"),
    ],
)
def test_a_number_is_named_by_its_fd(number: int, kind: str, name: str) -> None:
    assert name_of(number, kind) == name


def test_an_unknown_number_is_none() -> None:
    assert find(0xC008AEFF, "vm") is None


def test_a_struct_and_its_flags(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system, system.create_vm() as vm, Mapping.anonymous(1 << 20) as ram:
            vm.memslots.add(0x4000_0000, ram, readonly=True)
        """
    )
    event = ioctl(events, "KVM_SET_USER_MEMORY_REGION")
    assert event.argument["guest_phys_addr"] == 0x4000_0000
    assert event.argument["memory_size"] == 1 << 20
    assert event.names["argument.flags"] == "KVM_MEM_READONLY"
    assert event.mapped[0]["perms"] == "rw-p"


def test_what_the_kernel_writes_is_told_apart(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system, system.create_vm() as vm:
            vm.create_device(uapi.KVM_DEV_TYPE_VFIO)
        """
    )
    event = ioctl(events, "KVM_CREATE_DEVICE")
    assert event.names["argument.type"] == "KVM_DEV_TYPE_VFIO"
    assert list(event.returned) == ["fd"]
    assert event.made == "vm1/kvm-vfio"


def test_a_capability_has_its_name(trace: Traces) -> None:
    events = trace("with System.open() as system: system.check(uapi.KVM_CAP_NR_MEMSLOTS)")
    event = ioctl(events, "KVM_CHECK_EXTENSION")
    assert event.names["argument.argument"] == "KVM_CAP_NR_MEMSLOTS"
    assert event.result > 0


@pytest.mark.parametrize(
    ("pointer", "unread"),
    [
        pytest.param("8", "the 32 bytes at 0x8 cannot be read", id="garbage"),
        pytest.param(
            "half.hva + PAGE_SIZE - 8", "of the 32 bytes at .* only 8 can be read", id="half mapped"
        ),
    ],
)
def test_what_cannot_be_read_is_said(trace: Traces, pointer: str, unread: str) -> None:
    import re

    events = trace(
        f"""
        half = Mapping(2 * PAGE_SIZE)
        half.place_anonymous(at=0, size=PAGE_SIZE)
        libc = ctypes.CDLL(None)
        with System.open() as system, system.create_vm() as vm:
            request = ctypes.c_ulong(uapi.KVM_SET_USER_MEMORY_REGION)
            assert libc.ioctl(vm.fileno(), request, ctypes.c_void_p({pointer})) == -1
        """
    )
    event = ioctl(events, "KVM_SET_USER_MEMORY_REGION")
    assert event.errno == "EFAULT"
    assert re.fullmatch(unread, event.unread)


def test_an_ioctl_that_no_header_has(trace: Traces) -> None:
    events = trace(
        """
        with System.open() as system:
            try:
                fcntl.ioctl(system.fileno(), 0xAEFE, 0)
            except OSError:
                pass
        """
    )
    assert ioctl(events, "_IO(0xae, 0xfe, 0 bytes)").errno == "EINVAL"
