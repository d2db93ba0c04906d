# SPDX-License-Identifier: GPL-2.0-only
"""What Landlock denies by itself, without the seccomp filter."""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pyvmm import seccomp
from pyvmm.kvm import System
from pyvmm.kvm.system_fd import DEVICE
from pyvmm.sandbox import landlock
from pyvmm.uapi.kvm import KVM_GET_API_VERSION
from tests.process import in_child

ABSTRACT = "\0pyvmm-test"


def needs_abi(version: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        landlock.abi() < version,
        reason=f"needs ABI {version} of Landlock: pytest --lab",
    )


pytestmark = needs_abi(1)
needs_inet = pytest.mark.skipif(
    not Path("/proc/net/tcp").exists(), reason="needs CONFIG_INET: pytest --lab --lab-kernel debian"
)


def restricted(attack: Callable[[], object], rights: Mapping[Path, int] | None = None) -> str:
    """Call `attack` in a child with only `rights`; return its errno, or "allowed"."""

    def run() -> str:
        seccomp.set_no_new_privs()
        landlock.restrict(rights or {})
        try:
            attack()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "allowed"

    return in_child(run)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("text")
    return file


def test_no_file_without_a_rule(file: Path) -> None:
    assert restricted(file.read_text) == "EACCES"
    assert restricted(lambda: file.write_text("new")) == "EACCES"
    assert restricted(file.unlink) == "EACCES"
    assert restricted(lambda: file.rename(file.with_name("other"))) == "EACCES"
    assert restricted((file.parent / "directory").mkdir) == "EACCES"
    assert restricted(lambda: (file.parent / "link").symlink_to(file)) == "EACCES"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_rights_hold_below_a_directory(file: Path) -> None:
    rights = {file.parent: landlock.READ}
    assert restricted(file.read_text, rights) == "allowed"
    assert restricted(lambda: list(file.parent.iterdir()), rights) == "allowed"
    assert restricted(lambda: file.write_text("new"), rights) == "EACCES"
    assert restricted(file.unlink, rights) == "EACCES"


def test_no_program() -> None:
    rights = {Path("/"): landlock.READ}
    assert restricted(lambda: os.execv(sys.executable, ["python3"]), rights) == "EACCES"


@needs_abi(3)
def test_no_truncation(file: Path) -> None:
    rights = {file: landlock.WRITE}
    assert restricted(lambda: os.truncate(file, 0), rights) == "EACCES"


def test_open_descriptors_keep_their_rights(file: Path) -> None:
    with file.open("r+b", buffering=0) as opened:
        assert restricted(lambda: opened.write(b"new!")) == "allowed"
    assert file.read_text() == "new!"


@needs_inet
@needs_abi(4)
def test_no_tcp() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        assert restricted(lambda: socket.create_connection(("127.0.0.1", port))) == "EACCES"
    assert restricted(lambda: socket.create_server(("", 0))) == "EACCES"


@needs_abi(5)
def test_no_ioctl_of_a_device_without_that_right(kvm: System) -> None:
    def ask() -> None:
        with DEVICE.open("rb", buffering=0) as device:
            fcntl.ioctl(device, KVM_GET_API_VERSION)

    assert restricted(ask, {DEVICE: landlock.READ}) == "EACCES"
    assert restricted(ask, {DEVICE: landlock.DEVICE}) == "allowed"


@needs_abi(6)
def test_no_abstract_unix_socket_and_no_signal_outside() -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(ABSTRACT)
        server.listen()
        assert restricted(lambda: client.connect(ABSTRACT)) == "EPERM"
    assert restricted(lambda: os.kill(os.getppid(), 0)) == "EPERM"


@needs_abi(9)
def test_no_unix_socket_by_path(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        assert restricted(lambda: client.connect(path)) == "EACCES"


@needs_inet
@needs_abi(10)
def test_no_udp() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        assert restricted(lambda: client.sendto(b"data", ("127.0.0.1", 9))) == "EACCES"
        assert restricted(lambda: client.bind(("", 0))) == "EACCES"
