# SPDX-License-Identifier: GPL-2.0-only
"""Assemble a payload to a flat binary with GNU binutils; cache it by the source's content."""

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from pyvmm import cache_dir, scratch_dir
from pyvmm.errors import LackingError, PyvmmError
from pyvmm.input_file import read_bytes

# Architecture → GNU triplet. Debian's package is "binutils-" and the triplet.
_TRIPLETS = {"arm64": "aarch64-linux-gnu", "x86_64": "x86_64-linux-gnu"}
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
_SCRIPT = Path(__file__).with_name("payload.ld")

# The cache key does not cover included files, so a source that includes any is not cached.
_INCLUDES = re.compile(rb"^\s*\.inc(lude|bin)\b", re.MULTILINE)
_OFFSET = re.compile(r":\(\S+\+0x[0-9a-f]+\): ")
_OBJECT = "payload.o"
_MESSAGE = re.compile(r"^(?P<where>.+?:\d+): (Error|Warning): (?P<what>.+)$", re.MULTILINE)


def assemble(source: Path, arch: str) -> bytes:
    """Assemble a source for `arch` ("arm64" or "x86_64") to a flat binary.

    There is no C preprocessor. Raises `UsageError` if the source is unreadable, `PyvmmError` with
    file and line if it has an error or is not position independent, and `LackingError` if
    binutils are not installed.
    """
    text = read_bytes(source)
    tools = _Tools(arch)
    cached = cache_dir.root() / "payloads" / f"{tools.digest(text)}.bin"
    cacheable = not _INCLUDES.search(text)
    if cacheable and (code := cache_dir.read(cached)) is not None:
        return code
    code = tools.build(source)
    if cacheable:
        with contextlib.suppress(OSError):  # the cache is not writable
            cache_dir.write(cached, code)
    return code


class _Tools:
    """The assembler, linker and objcopy of one architecture."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self.assembler, self.linker, self.objcopy = (
            self._find(name) for name in ("as", "ld", "objcopy")
        )

    def _find(self, name: str) -> str:
        triplet = _TRIPLETS[self.arch]
        path = shutil.which(f"{triplet}-{name}")
        if path is None and platform.machine() == _MACHINES[self.arch]:
            path = shutil.which(name)
        if path is None:
            package = f"binutils-{triplet.replace('_', '-')}"
            raise LackingError(
                f"assembling for {self.arch} needs {triplet}-{name}: apt install {package}"
            )
        return path

    def digest(self, text: bytes) -> str:
        """Return the cache key of `text` assembled with these tools."""
        parts = (self.arch.encode(), _version(self.assembler), _SCRIPT.read_bytes(), text)
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def build(self, source: Path) -> bytes:
        with scratch_dir.create() as directory:
            unlinked = f"{directory}/{_OBJECT}"
            include = f"-I{source.parent}"
            _run(
                [self.assembler, "--fatal-warnings", "-g", include, "-o", unlinked, str(source)],
                source,
            )
            code = self._link(unlinked, 0, source)
            # An absolute address makes the binaries for two base addresses differ.
            if code != self._link(unlinked, 0x10000, source):
                raise PyvmmError(
                    f"{source} has the absolute address of a label: make the payload "
                    "position independent (arm64: adr; x86_64: %rip-relative)"
                )
            return code

    def _link(self, unlinked: str, base: int, source: Path) -> bytes:
        linked, flat = f"{unlinked}.elf", f"{unlinked}.bin"
        options = [f"--defsym=BASE={base}", f"--script={_SCRIPT}", "--entry=0"]
        _run([self.linker, *options, "-o", linked, unlinked], source)
        _run([self.objcopy, "-O", "binary", linked, flat], source)
        return Path(flat).read_bytes()


@functools.cache
def _version(assembler: str) -> bytes:
    done = subprocess.run([assembler, "--version"], capture_output=True, check=True)
    return done.stdout.splitlines()[0]


def _run(command: list[str], source: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if done.returncode:
        raise PyvmmError(_first_error(done.stderr, source))


def _first_error(stderr: str, source: Path) -> str:
    """Return the first error of as or ld in one line, with file and line number."""
    if message := _MESSAGE.search(stderr):
        return f"{message['where']}: {message['what']}"
    # ld prints a line of context, then "…/ld: /tmp/…/payload.o:FILE:LINE:(.text+0x4): undefined
    # reference to `NAME'". Only newer versions print both line and offset.
    last = stderr.strip().rpartition("\n")[2].rpartition(f"{_OBJECT}:")[2]
    last = _OFFSET.sub(": ", last)
    return last if source.name in last else f"{source}: {last}"
