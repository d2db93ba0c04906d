# SPDX-License-Identifier: GPL-2.0-only
"""The modules that a distribution kernel needs in the lab, loaded before the command starts.

Dependencies are read from each module's ``.modinfo`` section. This reads a few dozen modules,
while depmod(8) reads all of them.
"""

import lzma
import re
from collections.abc import Iterator
from pathlib import Path

from pyvmm.cpio import CpioArchive
from pyvmm.errors import LackingError

WANTED = (
    *("virtio_mmio", "virtio_blk", "virtio_console", "crc32c_generic", "erofs"),
    *("9pnet_virtio", "9p", "arm_smmu_v3", "nvme", "iommufd", "vfio_iommu_type1", "vfio_pci"),
    # PFNMAP memory that is RAM, for `pyvmm.provoke.pfnmap_ram`
    *("vgem", "udmabuf", "system_heap"),
)
# Drivers of the lab's devices in guests of `boot`; a cached kernel may lack them.
FOR_GUESTS = ("igb",)


def archive(directory: Path) -> bytes:
    """Return a cpio archive of the modules from ``/lib/modules/RELEASE``.

    Its file ``modules/order`` lists them in the order to load them. Raises `LackingError` if the
    directory has none of them.
    """
    files = {_name(path): path for path in directory.rglob("*.ko*")}
    contents: dict[str, bytes] = {}

    def load(name: str) -> Iterator[str]:
        # A module without a file is built in, or the kernel does not have it.
        if name in files and name not in contents:
            contents[name] = _uncompressed(files[name])
            for other in dependencies(contents[name]):
                yield from load(other)
            yield name

    order = [each for name in (*WANTED, *FOR_GUESTS) for each in load(name)]
    if not order:
        raise LackingError(f"the kernel {directory.name} has no modules: pass another version")
    cpio = CpioArchive()
    cpio.directory("modules")
    for name in order:
        cpio.file(f"modules/{name}.ko", contents[name])
    cpio.file("modules/order", "".join(f"{name}.ko\n" for name in order).encode())
    return cpio.to_bytes()


def dependencies(module: bytes) -> list[str]:
    """Return the names in a module's ``depends`` field of ``.modinfo``."""
    found = re.search(rb"\0depends=([\w,-]*)\0", module)
    names = found[1].decode().split(",") if found else []
    return [name.replace("-", "_") for name in names if name]


def _name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def _uncompressed(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
