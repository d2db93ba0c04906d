# SPDX-License-Identifier: GPL-2.0-only
"""Header sets: the definitions in one kernel's headers for one architecture.

libclang takes a second or two to read one, so it is cached as JSON in the user's cache. The file's
name is a hash of the headers' text, of all that they include, and of the code that reads them. The
same headers in another directory are not read again; a changed header is.
"""

import hashlib
import json
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from pyvmm import cache_dir
from pyvmm.errors import LackingError
from pyvmm.input_file import read_bytes
from pyvmm.uapi import fds, header_tree, model
from pyvmm.uapi.model import Constant, Header, HeaderError, IoctlDefinition, Member, StructLayout

# Module → header. A header with parts under asm/ also has a module per architecture (kvm_arm64).
MODULES = {"kvm": "linux/kvm.h", "vfio": "linux/vfio.h", "iommufd": "linux/iommufd.h"}

_SCHEMA = "pyvmm.uapi/1"
_READERS = (Path(__file__).with_name("headers.py"), fds.__file__, model.__file__, __file__)
_MAX_CACHED = 40  # header sets, of some 100 KiB each


@dataclass(frozen=True)
class HeaderSet:
    """The definitions of the headers in `MODULES`, without those that the kernel lacks."""

    version: str  # of the kernel, "7.2.12"
    architecture: str
    headers: dict[str, Header]  # by module

    @property
    def all(self) -> Header:
        """Return all headers merged into one: no name is in two of them."""
        whole = Header(self.version, {}, {}, {})
        for header in self.headers.values():
            whole.constants.update(header.constants)
            whole.structs.update(header.structs)
            whole.ioctls.update(header.ioctls)
        return whole


def read(place: Path, architecture: str) -> HeaderSet:
    """Return the header set of a directory, or of a file that `cache_file` returned.

    Raises `HeaderError` if there are no headers or they do not compile, and `LackingError` if they
    are not cached and libclang is missing.
    """
    path = place if place.is_file() else cache_file(place, architecture)
    try:
        found = _decode(json.loads(cache_dir.verified(read_bytes(path)) or b""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise HeaderError(f"{path} is not a header set of pyvmm ({_SCHEMA}): remove it") from None
    if found.architecture != architecture:
        raise HeaderError(f"{path} is for {found.architecture}, not for {architecture}")
    return found


def cache_file(directory: Path, architecture: str) -> Path:
    """Return the cached file of a directory's header set; read the headers if it is missing.

    `read` takes the file in place of the directory on a host without the headers or libclang, such
    as the emulated one. Raises as `read` does.
    """
    found = header_tree.find(directory, architecture)
    texts = found.closure([*MODULES.values(), "linux/bits.h"])
    digest = hashlib.blake2b(digest_size=16)
    for part in (found.version, *(Path(each).read_text() for each in _READERS)):
        digest.update(part.encode())
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{text}\0".encode())
    path = _directory() / f"{architecture}-{digest.hexdigest()}.json"
    if cache_dir.read(path) is None:
        from pyvmm.uapi.headers import read as read_header  # needs libclang

        by_module = {
            each: read_header(found, name) for each, name in MODULES.items() if name in texts
        }
        save(HeaderSet(found.version, architecture, by_module), path)
    return path


def read_cached(architecture: str) -> list[HeaderSet]:
    """Return every cached header set of an architecture that is not damaged."""
    files = sorted(_directory().glob(f"{architecture}-*.json"))
    return [read(path, architecture) for path in files if cache_dir.read(path) is not None]


def _directory() -> Path:
    return cache_dir.root() / "header-sets"


def save(headers: HeaderSet, path: Path) -> None:
    """Write a file for `read` atomically, and delete the oldest files beside it.

    Raises `LackingError` if the cache cannot be written.
    """
    try:
        cache_dir.write(path, json.dumps(_encode(headers)).encode())
        kept = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-_MAX_CACHED]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise LackingError(
            f"the cache {path.parent} cannot be written ({error.strerror}): "
            "set XDG_CACHE_HOME to another directory"
        ) from None


def _encode(headers: HeaderSet) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "version": headers.version,
        "architecture": headers.architecture,
        "headers": {
            module: {
                "constants": [astuple(each) for each in header.constants.values()],
                "structs": [astuple(each) for each in header.structs.values()],
                "ioctls": [astuple(each) for each in header.ioctls.values()],
            }
            for module, header in headers.headers.items()
        },
    }


def _decode(document: dict[str, Any]) -> HeaderSet:
    version = document["version"]
    headers = {
        module: Header(
            version,
            {each[0]: Constant(*each) for each in header["constants"]},
            {
                name: StructLayout(name, size, tuple(_member(*each) for each in members))
                for name, size, members in header["structs"]
            },
            {each[0]: IoctlDefinition(*each) for each in header["ioctls"]},
        )
        for module, header in document["headers"].items()
    }
    architecture = document["architecture"]
    if architecture not in header_tree.ARCHITECTURES:
        raise ValueError(architecture)
    return HeaderSet(version, architecture, headers)


def _member(name: str, type: str, counts: list[int], *place: int) -> Member:
    return Member(name, type, tuple(counts), *place)
