# SPDX-License-Identifier: GPL-2.0-only
"""A guest's write triggers a device that tries what the sandbox forbids."""

import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import io
import mmap
import os
import platform
import resource
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pyvmm import libc, sandbox, seccomp
from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.bus import BusDevice
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe, pack, unpack
from pyvmm.kvm import System
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.sandbox import landlock
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.iommufd import IOMMU_IOAS_MAP
from pyvmm.uapi.kvm import KVM_CREATE_IRQCHIP
from pyvmm.uapi.vfio import VFIO_IOMMU_MAP_DMA
from tests.process import in_child

DEVICE_GPA = 0x0A00_0000
MEMORY_GPA = 1 << 32

X86 = platform.machine() == "x86_64"
PTRACE, PTRACE_SEIZE = 101 if X86 else 117, 0x4206
IO_URING_SETUP, USERFAULTFD = 425, 323 if X86 else 282
BPF, MOUNT = 321 if X86 else 280, 165 if X86 else 40
TIOCSTI = 0x5412
READABLE, EXECUTABLE = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

needs_landlock = pytest.mark.skipif(
    not landlock.abi(), reason="needs CONFIG_SECURITY_LANDLOCK: pytest --lab"
)
needs_seccomp = pytest.mark.skipif(not seccomp.has_filters(), reason="needs CONFIG_SECCOMP_FILTER")


class Attacker(BusDevice):
    """A device whose register writes run `attack` and keep its errno."""

    def __init__(self, attack: Callable[[], object]) -> None:
        self._attack = attack
        self.result = "no write arrived"

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        try:
            self._attack()
            self.result = "allowed"
        except OSError as error:
            self.result = errno.errorcode[error.errno or 0]


def attacked(attack: Callable[[], object]) -> str:
    """Run a guest in a sandboxed child, whose write makes a device run `attack`."""

    def run() -> str:
        attacker = Attacker(attack)
        with System.open() as kvm, Machine(kvm, console=io.BytesIO()) as machine:
            machine.mmio.attach(DEVICE_GPA, PAGE_SIZE, attacker)
            machine.windows.append(identity(DEVICE_GPA, PAGE_SIZE, MemoryType.DEVICE))
            machine.load(Payload.builtin("probe", machine.arch.NAME))
            sandbox.enter()
            machine.enter(pack([Probe(DEVICE_GPA, 4, Op.WRITE, 1)]))
            machine.run()
        return attacker.result

    return in_child(run)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("outside") / "file"
    file.write_text("before")
    return file


@needs_landlock
def test_no_file_is_opened_for_writing(kvm: System, file: Path) -> None:
    assert attacked(lambda: file.open("r+")) == "EACCES"
    assert attacked(lambda: file.open("w")) == "EACCES"
    assert attacked(lambda: file.with_name("new").touch()) == "EACCES"
    assert attacked(partial(os.open, "/proc/self/mem", os.O_WRONLY)) == "EACCES"
    assert file.read_text() == "before"


@needs_landlock
def test_no_device_is_changed_through_sysfs(kvm: System) -> None:
    files = [Path("/sys/bus/pci/drivers_probe"), *Path("/sys/bus/pci/devices").glob("*/reset")]
    if not files[0].exists():
        pytest.skip("this machine has no PCI bus: pytest --lab")
    for path in files:
        assert attacked(partial(os.open, path, os.O_WRONLY)) == "EACCES"


@needs_landlock
def test_no_file_of_the_user_is_read(kvm: System, file: Path) -> None:
    assert attacked(file.read_text) == "EACCES"
    assert attacked(Path("/proc/version").read_text) == "EACCES"
    assert attacked(Path("/proc/1/status").read_text) == "EACCES"
    assert attacked(lambda: list(file.parent.iterdir())) == "EACCES"


@needs_landlock
@pytest.mark.parametrize(
    "path", ["/dev/mem", "/dev/vfio/vfio", "/dev/vfio/devices/vfio0", "/dev/iommu", "/dev/tty"]
)
def test_no_other_device_is_opened(kvm: System, path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"this machine has no {path}")
    assert attacked(lambda: os.open(path, os.O_RDWR)) == "EACCES"


def _thread() -> None:
    try:
        threading.Thread(target=print).start()
    except RuntimeError as error:  # Python's report of EPERM and EAGAIN
        raise PermissionError(errno.EPERM, str(error)) from None


@needs_seccomp
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(lambda: socket.socket(socket.AF_INET), id="TCP"),
        pytest.param(lambda: socket.socket(socket.AF_UNIX), id="Unix socket"),
        pytest.param(socket.socketpair, id="socketpair"),
        pytest.param(lambda: os.execv("/bin/true", ["true"]), id="exec"),
        pytest.param(os.fork, id="fork"),
        pytest.param(lambda: os.posix_spawn("/bin/true", ["true"], {}), id="spawn"),
        pytest.param(_thread, id="thread"),
        pytest.param(lambda: os.kill(os.getppid(), 0), id="signal"),
        pytest.param(lambda: libc.tgkill(os.getppid(), os.getppid(), 0), id="tgkill"),
        pytest.param(lambda: libc.syscall(PTRACE, PTRACE_SEIZE, os.getppid(), 0, 0), id="ptrace"),
        pytest.param(lambda: signal.pidfd_send_signal(0, 0), id="pidfd"),
        pytest.param(lambda: libc.syscall(BPF, 0, 0, 0), id="bpf"),
        pytest.param(lambda: libc.syscall(MOUNT, 0, 0, 0, 0, 0), id="mount"),
        pytest.param(lambda: libc.syscall(IO_URING_SETUP, 1, 0), id="io_uring"),
        pytest.param(lambda: libc.syscall(USERFAULTFD, 1), id="userfaultfd"),
        pytest.param(lambda: Path("/nonexistent").unlink(), id="unlink"),
        pytest.param(lambda: Path("/nonexistent").rename("/other"), id="rename"),
        pytest.param(lambda: Path("/nonexistent").mkdir(), id="mkdir"),
        pytest.param(lambda: Path("/nonexistent").chmod(0o777), id="chmod"),
        pytest.param(lambda: Path("/nonexistent").symlink_to("/other"), id="symlink"),
        pytest.param(lambda: os.truncate("/nonexistent", 0), id="truncate"),
        pytest.param(lambda: os.memfd_create("memfd"), id="memfd"),
        pytest.param(lambda: libc.mmap(0, 4096, EXECUTABLE, ANONYMOUS, -1, 0), id="mmap"),
        pytest.param(lambda: libc.prctl(4, 1, 0, 0, 0), id="prctl"),
        pytest.param(lambda: fcntl.ioctl(0, TIOCSTI, b"x"), id="TIOCSTI"),
        pytest.param(os.setsid, id="setsid"),
        pytest.param(lambda: os.chroot("/"), id="chroot"),
    ],
)
def test_forbidden_system_call(kvm: System, attack: Callable[[], object]) -> None:
    assert attacked(attack) == "EPERM"


@needs_seccomp
@pytest.mark.parametrize(
    "ioctl", [KVM_CREATE_IRQCHIP, IOMMU_IOAS_MAP, VFIO_IOMMU_MAP_DMA], ids=repr
)
def test_ioctl_that_is_not_on_the_list(kvm: System, ioctl: Ioctl) -> None:
    def attack() -> None:
        with System.open() as other:
            fcntl.ioctl(other.fileno(), ioctl)

    assert attacked(attack) == "EPERM"


@needs_seccomp
def test_memory_is_not_made_executable(kvm: System) -> None:
    def mprotect() -> None:
        address = libc.mmap(0, PAGE_SIZE, READABLE, ANONYMOUS, -1, 0)
        libc.mprotect(address, PAGE_SIZE, EXECUTABLE)

    def writable_file() -> None:
        with Path(os.__file__).open("rb") as file:
            libc.mmap(
                0, PAGE_SIZE, EXECUTABLE | mmap.PROT_WRITE, mmap.MAP_PRIVATE, file.fileno(), 0
            )

    assert attacked(mprotect) == "EPERM"
    assert attacked(writable_file) == "EPERM"


@needs_seccomp
@pytest.mark.parametrize("access", [libc.process_vm_readv, libc.process_vm_writev])
def test_memory_of_another_process_is_not_accessed(kvm: System, access: Callable[..., int]) -> None:
    def attack() -> None:
        local = libc.Iovec(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
        access(os.getppid(), local, 1, local, 1, 0)

    assert attacked(attack) == "EPERM"


@needs_seccomp
@pytest.mark.needs_arch("x86_64")
def test_a_system_call_of_i386_kills() -> None:
    def call() -> str:
        code = mmap.mmap(-1, PAGE_SIZE, prot=mmap.PROT_WRITE | EXECUTABLE)
        code.write(bytes.fromhex("53 b814000000 cd80 5b c3"))  # push, getpid by int 0x80, pop, ret
        function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
        assert function() == os.getpid()
        sandbox.enter()
        return f"it returned {function()}"

    assert in_child(call) == f"wait status {signal.SIGSYS:#x}"


def test_privileges() -> None:
    def status() -> str:
        sandbox.enter()
        return Path("/proc/self/status").read_text()

    fields = dict(line.split(":\t", 1) for line in in_child(status).splitlines())
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"


def test_no_core_dump(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            faulthandler.disable()
            os.chdir(tmp_path)
            resource.setrlimit(
                resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)[1:] * 2
            )
            sandbox.enter()
        os.abort()
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGABRT
    assert not os.WCOREDUMP(status)


def test_fault_is_explained_and_fixed(kvm: System) -> None:
    def run() -> str:
        with (
            System.open() as own,
            Machine(own, console=io.BytesIO()) as machine,
            Mapping.anonymous(PAGE_SIZE) as memory,
        ):
            machine.vm.memslots.add(MEMORY_GPA, memory)
            machine.windows.append(identity(MEMORY_GPA, PAGE_SIZE))
            machine.load(Payload.builtin("probe", machine.arch.NAME))
            libc.mprotect(memory.hva, PAGE_SIZE, 0)
            sandbox.enter()
            block = pack([Probe(MEMORY_GPA)])
            machine.enter(block)
            machine.run()
            [answer] = unpack([Probe(MEMORY_GPA)], machine.read(ARGUMENT_BLOCK, len(block)))
            [record] = machine.faults.records
            return f"{record.fault.cause} {record.outcome} {answer.outcome.name}"

    assert in_child(run) == "hva-no-access resolved OK"


def _in_sandbox_of_linux(attack: Callable[[], object]) -> str:
    """Return the errno of `attack` in the sandbox of a Linux guest, or "allowed"."""

    def run() -> str:
        sandbox.enter(linux_guest=True)
        attacker = Attacker(attack)
        attacker.write(0, 4, 1)
        return attacker.result

    return in_child(run)


@needs_seccomp
def test_a_linux_guest_has_threads_but_no_processes() -> None:
    assert _in_sandbox_of_linux(_thread) == "allowed"
    assert _in_sandbox_of_linux(os.fork) == "EPERM"
    assert _in_sandbox_of_linux(lambda: os.execv("/bin/true", ["true"])) == "EPERM"
    assert _in_sandbox_of_linux(lambda: os.posix_spawn("/bin/true", ["true"], {})) == "EPERM"


@needs_landlock
def test_threads_of_a_linux_guest_are_restricted(file: Path) -> None:
    def attack() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(file.read_text).result()

    assert _in_sandbox_of_linux(attack) == "EACCES"


def test_threads_are_refused() -> None:
    def enter() -> str:
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        try:
            sandbox.enter()
        except RuntimeError as error:
            return str(error)
        finally:
            event.set()
            thread.join()
        return "entered"

    assert "one thread" in in_child(enter)


@needs_landlock
@needs_seccomp
def test_nothing_is_unenforced() -> None:
    assert sandbox.unenforced() == []
