# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log of hosts that crash, run out of memory, or run a command that fails."""

import re
import signal
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import host

from .conftest import Run

# More memory than the host has, in parts that the kernel does not reject at once.
FILL = "parts = [b'x' * (16 << 20) for _ in range(64)]"


def test_an_oops_ends_the_run_with_its_first_line(run: Run, emulated: host.Host) -> None:
    if emulated.kernel.name != "lab":
        pytest.skip("needs the lab's kernel, which has nvgrace: python -m pyvmm lab setup")
    if not (message := failure(run, "python3", "-m", "pyvmm", "provoke", "private-usemem")):
        pytest.skip("this kernel rejects the mapping, as it should")
    assert "crashed: kernel BUG at vmf_insert_pfn_prot" in message
    assert "vfio_pci_vmf_insert_pfn <- nvgrace_gpu_vfio_pci_huge_fault <- " in message


def failure(run: Run, *command: str) -> str:
    """Return the error of a host that runs a command with a grace device, or an empty string."""
    try:
        run(*command, devices=["grace"])
    except LackingError as error:
        return str(error)
    return ""


def test_note_of_a_command_killed_for_memory(run: Run) -> None:
    notes: list[str] = []
    result = run("python3", "-c", FILL, memory=448 << 20, note=notes.append)
    assert result.status == 128 + signal.SIGKILL
    [kill] = [note for note in notes if "reports: Out of memory: Killed process" in note]
    assert "(python3)" in kill
    assert kill.endswith("pass more with --memory")


def test_kernel_log_of_a_failed_command(run: Run, tmp_path: Path) -> None:
    notes: list[str] = []
    with (tmp_path / "dmesg").open("w") as dmesg:
        run("sh", "-c", "echo since >/dev/kmsg; exit 5", note=notes.append, dmesg=dmesg)
    assert re.fullmatch(
        r"the host's kernel log since the command began:\n  \[ *\d+\.\d+\] since", notes[-1]
    )
    log = (tmp_path / "dmesg").read_text()
    assert "Booting Linux" in log
    assert log.endswith("] since\n")
