# SPDX-License-Identifier: GPL-2.0-only
"""The symbols of the running kernel's image, compared with /proc/kallsyms."""

from pathlib import Path

import pytest

from pyvmm import kernel_image
from pyvmm.linux.kallsyms import Kallsyms

IMAGE = Path("/run/Image")


@pytest.mark.needs_arch("aarch64")
def test_symbols_of_the_running_kernel() -> None:
    if not IMAGE.exists():
        pytest.skip("needs the image of the running kernel: pytest --lab")
    found = Kallsyms.find(kernel_image.read(IMAGE).data)
    assert found
    lines = (line.split() for line in Path("/proc/kallsyms").read_text().splitlines())
    running = {name: int(address, 16) for address, _, name, *module in lines if not module}
    assert running["_text"], "root reads addresses"
    by_offset: dict[int, set[str]] = {}
    for name, address in running.items():
        by_offset.setdefault(address - running["_text"], set()).add(name)
    for name in ("memcpy", "schedule", "kvm_handle_guest_abort", "vfs_read"):
        offset = running[name] - running["_text"]
        described = found.describe(offset + 4)
        assert described
        assert described in {f"{alias}+0x4" for alias in by_offset[offset]}


def test_a_file_without_symbols() -> None:
    assert Kallsyms.find(b"") is None
    assert Kallsyms.find(bytes(1 << 16)) is None
    digits = b"".join(b"%d\0" % digit for digit in range(10))
    assert Kallsyms.find(digits * 10) is None
    assert Kallsyms.find(b"a\0" * 48 + digits + b"b\0" * 300) is None
