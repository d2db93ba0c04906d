# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
import platform
import resource
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, PyvmmError, Status
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System
from pyvmm.kvm.system import DEVICE
from pyvmm.uapi.kvm import (
    KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED,
    KVM_CAP_ARM_VM_IPA_SIZE,
    KVM_CAP_USER_MEMORY,
)
from tests.process import as_nobody, open_fds, soft_limit


def opened(path: Path) -> str:
    """What opening `path` comes to, as a command would say it."""
    try:
        with System.open(path) as system:
            return f"API {system.api_version()}"
    except PyvmmError as error:
        return f"{error.status.value} {error}"


def test_the_one_api_version_there_is(kvm: System) -> None:
    assert kvm.api_version() == 12


def test_no_such_node(tmp_path: Path) -> None:
    said = opened(tmp_path / "kvm")
    assert said.startswith(f"{Status.LACKING.value} cannot open {tmp_path}/kvm: No such file")
    assert "load the kvm module" in said


def test_no_permission(tmp_path: Path) -> None:
    node = tmp_path / "kvm"
    node.touch(mode=0)
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    said = as_nobody(lambda: opened(node))
    assert said.startswith(f"{Status.LACKING.value} cannot open {node}: Permission denied")
    assert "join the group that owns it" in said


def test_not_kvm_at_all() -> None:
    before = open_fds()
    assert opened(Path("/dev/null")).startswith(f"{Status.LACKING.value} KVM_GET_API_VERSION")
    assert open_fds() == before


def test_no_descriptors_left() -> None:
    with soft_limit(resource.RLIMIT_NOFILE, 0), pytest.raises(LackingError, match="Too many"):
        System.open(DEVICE)


def test_check(kvm: System) -> None:
    assert kvm.check(KVM_CAP_USER_MEMORY) == 1
    assert kvm.check(60000) == 0


@pytest.mark.needs_arch("aarch64")
def test_a_capability_that_only_a_vm_answers(kvm: System) -> None:
    with pytest.raises(IoctlError) as failure:
        kvm.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)
    assert failure.value.errno == errno.EINVAL


def test_a_vm_has_a_wide_ipa_space(kvm: System) -> None:
    with kvm.create_vm() as vm:
        widest = kvm.check(KVM_CAP_ARM_VM_IPA_SIZE)
        assert vm.vm_type == min(widest, 48)
        assert (widest > 0) == (platform.machine() == "aarch64")


def test_a_vm_type_that_there_is_not(kvm: System) -> None:
    before = open_fds()
    with pytest.raises(IoctlError) as failure:
        kvm.create_vm(1 << 30)
    assert failure.value.errno == errno.EINVAL
    assert open_fds() == before


def test_no_descriptor_for_a_vm(kvm: System) -> None:
    before = open_fds()
    with soft_limit(resource.RLIMIT_NOFILE, 0), pytest.raises(IoctlError) as failure:
        kvm.create_vm()
    assert failure.value.errno == errno.EMFILE
    assert open_fds() == before


def test_a_vm_is_not_inherited(kvm: System) -> None:
    with kvm.create_vm() as vm:
        assert not os.get_inheritable(vm.fileno())
