# SPDX-License-Identifier: GPL-2.0-only
"""The guest of a run without ``--image`` or ``--initrd``: the host's own kernel, and busybox."""

import os
import shutil
from pathlib import Path

from pyvmm.cpio import CpioArchive
from pyvmm.errors import LackingError

_INIT = Path(__file__).with_name("guest_init.sh")
_LAB_IMAGE = Path("/run/Image")  # a link to the kernel that the lab booted
_MODULES = "modules.cpio"  # beside the image of a distribution kernel in the lab


def find_image() -> Path:
    """Return the image of the running kernel. Raises `LackingError`."""
    release = os.uname().release
    candidates = [_LAB_IMAGE, Path(f"/boot/vmlinuz-{release}"), Path(f"/boot/Image-{release}")]
    for path in candidates:
        if path.exists():
            return path
    raise LackingError(
        f"the image of the running kernel {release} is not in /boot: pass --image FILE"
    )


def make_initrd(image: Path, init: bytes | None = None) -> bytes:
    """Return an initrd with busybox, and with the modules that the lab keeps beside `image`.

    Its first process is the script `init`, by default guest_init.sh.

    Raises `LackingError` without a static busybox.
    """
    found = shutil.which("busybox")
    busybox = Path(found).read_bytes() if found else b""
    # PT_INTERP names the dynamic loader, which the guest does not have.
    if not busybox or b"/ld-linux-" in busybox[:0x1000]:
        raise LackingError(
            "the built-in guest needs a static busybox: install busybox-static, or pass --initrd"
        )
    archive = CpioArchive()
    for name in ("bin", "dev", "proc", "sys"):
        archive.directory(name)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, executable=True)
    archive.file("init", init or _INIT.read_bytes(), executable=True)
    modules = image.resolve().with_name(_MODULES)
    return (modules.read_bytes() if modules.exists() else b"") + archive.to_bytes()
