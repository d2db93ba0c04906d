# SPDX-License-Identifier: GPL-2.0-only
"""Test two kernels on the private mapping of a GPU's memory: Linux as it is, and with patch 0002.

    python -m pyvmm lab setup --kernel lab
    python -m pyvmm lab setup --kernel lab:nvgrace-private-mappings \
        --patch examples/kernel/0002-vfio-nvgrace-gpu-private-mappings.patch
    pytest examples/kernel/test_nvgrace_private_mappings.py

The first kernel crashes, so the tests run outside of the emulated host and look at how it ends.
"""

import json
import os
import subprocess
import sys

import pytest

from pyvmm.errors import Status
from pyvmm.lab import kernel
from pyvmm.lab.apt import no_progress

PATCHED = "lab:nvgrace-private-mappings"

pytestmark = pytest.mark.skipif("PYVMM_LAB" in os.environ, reason="runs outside of the lab")


def provoke(name: str) -> "subprocess.CompletedProcess[str]":
    """Map BAR4 of the lab's grace device privately behind a memslot, and let a guest read it."""
    if kernel.find(name, no_progress) is None:
        pytest.skip(f"the kernel {name} is not built: see the top of this file")
    run = [sys.executable, "-m", "pyvmm", "lab", "run", "--kernel", name, "--device", "grace"]
    command = [*run, "--", "provoke", "private-usemem", "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_the_patch() -> None:
    """vmf_insert_pfn_prot finds the copy-on-write mapping, and the run ends with its line."""
    ended = provoke("lab")
    assert ended.returncode == Status.LACKING
    assert "crashed: kernel BUG at vmf_insert_pfn_prot" in ended.stderr


def test_with_the_patch() -> None:
    """mmap(2) fails with EINVAL, as for the BARs that vfio_pci_core_mmap maps."""
    ended = provoke(PATCHED)
    assert ended.returncode == Status.DONE, ended.stderr
    [result] = json.loads(ended.stdout)["provoked"]
    assert "EINVAL" in result["skipped"]
