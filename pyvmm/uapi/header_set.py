# SPDX-License-Identifier: GPL-2.0-only
"""A header set: all that one kernel's headers say to one architecture.

Reading one takes libclang a second or two, so it is kept, as JSON, in the user's cache under a
name made of what was read: of the headers' text, with all that they include, and of the code that
reads them. The same headers in another directory are not read twice, a changed header is.
"""

import hashlib
import json
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from pyvmm.cache_dir import root
from pyvmm.errors import LackingError
from pyvmm.uapi import fds, header_tree, model
from pyvmm.uapi.model import Constant, Header, HeaderError, IoctlDefinition, Member, StructLayout

# Module → header. One with an architecture's own part has a module for each (kvm_arm64).
MODULES = {"kvm": "linux/kvm.h", "vfio": "linux/vfio.h", "iommufd": "linux/iommufd.h"}

_SCHEMA = "pyvmm.uapi/1"
_READERS = (Path(__file__).with_name("headers.py"), fds.__file__, model.__file__, __file__)
_ROOM = "uapi"  # of the cache
_KEPT = 40  # header sets, of some 100 KiB each


@dataclass(frozen=True)
class HeaderSet:
    """What the headers in `MODULES` say; one that the kernel does not have yet is left out."""

    version: str  # of the kernel, "7.2.12"
    architecture: str
    headers: dict[str, Header]  # by module

    @property
    def all(self) -> Header:
        """All the headers as one: their names have prefixes of their own."""
        whole = Header(self.version, {}, {}, {})
        for header in self.headers.values():
            whole.constants.update(header.constants)
            whole.structs.update(header.structs)
            whole.ioctls.update(header.ioctls)
        return whole


def read(place: Path, architecture: str) -> HeaderSet:
    """Return the header set of a directory, or of a file that `cache_file` named.

    Raises `HeaderError` where there is none or it does not compile, and `LackingError` where it
    was never read before and libclang is missing.
    """
    path = place if place.is_file() else cache_file(place, architecture)
    try:
        found = _decode(json.loads(path.read_text()))
    except (ValueError, LookupError, TypeError):
        raise HeaderError(f"{path} is no header set of pyvmm's ({_SCHEMA}): remove it") from None
    if found.architecture != architecture:
        raise HeaderError(f"{path} is for {found.architecture}, not for {architecture}")
    return found


def cache_file(directory: Path, architecture: str) -> Path:
    """Return the cache's file of a directory's header set; read the headers if it has none yet.

    The file does for the directory where that, or libclang, is out of reach: in an emulated host.
    """
    found = header_tree.find(directory, architecture)
    texts = found.closure([*MODULES.values(), "linux/bits.h"])
    digest = hashlib.blake2b(digest_size=16)
    for part in (found.version, *(Path(each).read_text() for each in _READERS)):
        digest.update(part.encode())
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{text}\0".encode())
    path = root() / _ROOM / f"{architecture}-{digest.hexdigest()}.json"
    if not path.exists():
        from pyvmm.uapi.headers import read as read_header  # needs libclang

        by_module = {
            each: read_header(found, name) for each, name in MODULES.items() if name in texts
        }
        save(HeaderSet(found.version, architecture, by_module), path)
    return path


def read_cached(architecture: str) -> list[HeaderSet]:
    """Return every header set that was read before and is still kept."""
    there = sorted((root() / _ROOM).glob(f"{architecture}-*.json"))
    return [read(path, architecture) for path in there]


def save(headers: HeaderSet, path: Path) -> None:
    """Write a file for `read` atomically, and delete the oldest files beside it.

    Raises `LackingError` if the cache cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as partial:
            json.dump(_encode(headers), partial)
        Path(partial.name).rename(path)
        kept = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise LackingError(
            f"the cache {path.parent} cannot be written ({error.strerror}): "
            "set XDG_CACHE_HOME to another place"
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
    return HeaderSet(version, document["architecture"], headers)


def _member(name: str, type: str, counts: list[int], *place: int) -> Member:
    return Member(name, type, tuple(counts), *place)
