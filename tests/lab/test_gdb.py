# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's debug port, on a machine that has not begun to run."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import qemu
from pyvmm.lab.gdb import Stub, StubError
from tests.lab.conftest import quiet

RAM = 0x4000_0000
DEVICE_TREE = bytes.fromhex("d00dfeed")  # what the virt machine puts there, without a kernel


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    try:
        program = qemu.find(quiet).command
    except LackingError as error:
        pytest.skip(f"there is no QEMU: {error}")
    path = tmp_path / "debug"
    machine = ["-machine", "virt,virtualization=on", "-cpu", "max", "-smp", "2", "-m", "64M"]
    argv = [*machine, "-display", "none", "-S", "-gdb", f"unix:{path},server=on,wait=off"]
    with subprocess.Popen([*program, *argv]) as process:
        try:
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.02)
            with Stub(path) as stub:
                yield stub
        finally:
            process.kill()


def test_each_cpu_is_at_el2_with_its_registers(stub: Stub) -> None:
    cpus = stub.cpus()
    assert len(cpus) == 2
    for cpu in cpus:
        stub.select(cpu)
        assert stub.exception_level() == 2
        assert stub.system_register("VTTBR_EL2") == 0


def test_physical_memory(stub: Stub) -> None:
    assert stub.physical(RAM, 4) == DEVICE_TREE


def test_what_is_not_there(stub: Stub) -> None:
    with pytest.raises(StubError, match="QEMU does not read 65536 bytes"):
        stub.physical(RAM, 1 << 16)
    with pytest.raises(StubError, match="no register ODD_EL9"):
        stub.system_register("ODD_EL9")


def test_no_such_port(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Stub(tmp_path / "none")
