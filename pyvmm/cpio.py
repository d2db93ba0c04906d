# SPDX-License-Identifier: GPL-2.0-only
"""Archives in the cpio "newc" format, which the kernel unpacks as initial RAM file system.

Concatenated archives are unpacked one after the other.
"""

import stat

_ALIGNMENT = 4


class CpioArchive:
    """A cpio archive; root owns every file."""

    def __init__(self) -> None:
        """Start an empty archive."""
        self._parts: list[bytes] = []
        self._inode = 0

    def directory(self, name: str) -> None:
        """Add a directory."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        """Add a regular file."""
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._add(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def to_bytes(self) -> bytes:
        """Return the archive with its trailer."""
        end = CpioArchive()
        end._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts + end._parts)

    def _add(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, dev (major, minor), rdev (major, minor),
        # namesize, check: see Documentation/driver-api/early-userspace/buffer-format.rst.
        fields = (
            *(self._inode, mode, 0, 0, 1, 0, len(content)),
            *(0, 0, *device, len(encoded), 0),
        )
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts.append(_padded(header + encoded) + _padded(content))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
