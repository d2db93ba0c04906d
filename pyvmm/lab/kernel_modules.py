# SPDX-License-Identifier: GPL-2.0-only
"""The modules that a stock kernel needs before the lab can start its command.

Each says in its ``.modinfo`` section which others it needs; reading that of the few dozen that
matter takes a second, where depmod(8) would read some thousands.
"""

import lzma
import re
from collections.abc import Iterator
from pathlib import Path

from pyvmm.lab.initramfs import CpioArchive

_WANTED = (
    *("virtio_mmio", "virtio_blk", "virtio_console", "crc32c_generic", "erofs"),
    *("9pnet_virtio", "9p", "arm_smmu_v3", "nvme", "iommufd", "vfio_iommu_type1", "vfio_pci"),
)


def archive(directory: Path) -> bytes:
    """Of a kernel's ``/lib/modules/RELEASE``: the modules, and the order to load them in."""
    files = {_name(path): path for path in directory.rglob("*.ko*")}
    contents: dict[str, bytes] = {}

    def load(name: str) -> Iterator[str]:
        # What has no file is built in, or this kernel has none.
        if name in files and name not in contents:
            contents[name] = _uncompressed(files[name])
            for other in dependencies(contents[name]):
                yield from load(other)
            yield name

    order = [each for name in _WANTED for each in load(name)]
    made = CpioArchive()
    made.directory("modules")
    for name in order:
        made.file(f"modules/{name}.ko", contents[name])
    made.file("modules/order", "".join(f"{name}.ko\n" for name in order).encode())
    return made.to_bytes()


def dependencies(module: bytes) -> list[str]:
    """The names of the modules that one of them needs, as its ``.modinfo`` says."""
    found = re.search(rb"\0depends=([\w,-]*)\0", module)
    names = found[1].decode().split(",") if found else []
    return [name.replace("-", "_") for name in names if name]


def _name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def _uncompressed(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
