# SPDX-License-Identifier: GPL-2.0-only
import os
from pathlib import Path

import pytest

from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.page_frames import is_ram

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="PFNs are hidden: run as root")


def test_memory_of_this_process_is_ram() -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        memory.write(0, b"touched")
        assert is_ram(memory.hva) is True
        assert is_ram(memory.hva + PAGE_SIZE) is None


def test_a_bar_is_not_ram() -> None:
    for resource in sorted(Path("/sys/bus/pci/devices").glob("*/resource[0-5]")):
        with resource.open("r+b", buffering=0) as bar:
            try:
                memory = Mapping.of_file(bar.fileno(), PAGE_SIZE)
            except OSError:  # I/O ports, or smaller than a page
                continue
        with memory:
            # mmap has filled in the PTEs; an access would be an abort while the device is off.
            assert is_ram(memory.hva) is False
        return
    pytest.skip("no PCI device has a BAR that can be mapped: pytest --lab --lab-device bochs")


def test_an_unknown_process() -> None:
    assert is_ram(PAGE_SIZE, 2**22 + 1) is None
