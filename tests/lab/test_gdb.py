# SPDX-License-Identifier: GPL-2.0-only
"""Connect to QEMU's gdb stub; the machine has not executed anything."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import qemu
from pyvmm.lab.apt import no_progress
from pyvmm.lab.gdb import GdbClient, GdbError

RAM = 0x4000_0000
DEVICE_TREE = bytes.fromhex("d00dfeed")  # QEMU puts the device tree at the start of RAM


@pytest.fixture
def gdb(tmp_path: Path) -> Iterator[GdbClient]:
    try:
        program = qemu.find(no_progress).command
    except LackingError as error:
        pytest.skip(f"cannot find QEMU: {error}")
    path = tmp_path / "debug"
    machine = ["-machine", "virt,virtualization=on", "-cpu", "max", "-smp", "2", "-m", "64M"]
    argv = [*machine, "-display", "none", "-S", "-gdb", f"unix:{path},server=on,wait=off"]
    with subprocess.Popen([*program, *argv]) as process:
        try:
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.02)
            with GdbClient(path) as gdb:
                yield gdb
        finally:
            process.kill()


def test_registers_of_each_cpu(gdb: GdbClient) -> None:
    cpus = gdb.cpus()
    assert len(cpus) == 2
    for cpu in cpus:
        gdb.select(cpu)
        assert gdb.exception_level() == 2
        assert gdb.system_register("VTTBR_EL2") == 0


def test_physical_memory(gdb: GdbClient) -> None:
    assert gdb.physical(RAM, 4) == DEVICE_TREE


def test_invalid_reads(gdb: GdbClient) -> None:
    with pytest.raises(GdbError, match="QEMU cannot read 65536 bytes"):
        gdb.physical(RAM, 1 << 16)
    with pytest.raises(GdbError, match="QEMU has no register ODD_EL9"):
        gdb.system_register("ODD_EL9")


def test_missing_socket(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        GdbClient(tmp_path / "none")
