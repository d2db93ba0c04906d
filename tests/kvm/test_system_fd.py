# SPDX-License-Identifier: GPL-2.0-only
import errno
import resource
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, PyvmmError, Status
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System
from pyvmm.kvm.system_fd import DEVICE
from pyvmm.uapi.kvm import KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED, KVM_CAP_USER_MEMORY
from tests.process import as_nobody, open_fds, soft_limit


def open_result(path: Path) -> str:
    """Return the API version, or the exit status and message of the error."""
    try:
        with System.open(path) as system:
            return f"API {system.api_version()}"
    except PyvmmError as error:
        return f"{error.status.value} {error}"


def test_api_version(kvm: System) -> None:
    assert kvm.api_version() == 12


def test_no_such_node(tmp_path: Path) -> None:
    message = open_result(tmp_path / "kvm")
    assert message.startswith(f"{Status.LACKING.value} cannot open {tmp_path}/kvm: No such file")
    assert "load the kvm module" in message


def test_no_permission(tmp_path: Path) -> None:
    node = tmp_path / "kvm"
    node.touch(mode=0)
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    message = as_nobody(lambda: open_result(node))
    assert message.startswith(f"{Status.LACKING.value} cannot open {node}: Permission denied")
    assert "join the group that owns it" in message


def test_not_a_kvm_device() -> None:
    before = open_fds()
    assert open_result(Path("/dev/null")).startswith(f"{Status.LACKING.value} KVM_GET_API_VERSION")
    assert open_fds() == before


def test_open_without_free_fds() -> None:
    with soft_limit(resource.RLIMIT_NOFILE, 0), pytest.raises(LackingError, match="Too many"):
        System.open(DEVICE)


def test_check(kvm: System) -> None:
    assert kvm.check(KVM_CAP_USER_MEMORY) == 1
    assert kvm.check(60000) == 0


@pytest.mark.needs_arch("aarch64")
def test_check_of_a_vm_capability(kvm: System) -> None:
    with pytest.raises(IoctlError) as failure:
        kvm.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)
    assert failure.value.errno == errno.EINVAL
