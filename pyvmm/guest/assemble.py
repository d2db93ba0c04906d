# SPDX-License-Identifier: GPL-2.0-only
"""From assembly source to a flat binary, with GNU binutils, cached by content."""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from pyvmm.cache_dir import root
from pyvmm.errors import LackingError, PyvmmError, UsageError

# Architecture → GNU triplet; Debian's package is the triplet behind "binutils-".
_TRIPLETS = {"arm64": "aarch64-linux-gnu", "x86_64": "x86_64-linux-gnu"}
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
_SCRIPT = Path(__file__).with_name("payload.ld")

# What lies outside the source is not in the key of the cache.
_INCLUDES = re.compile(rb"^\s*\.inc(lude|bin)\b", re.MULTILINE)
# Entered with its segments' base at its first byte, so that addresses from 0 are right.
_SEGMENTED = re.compile(rb"^\s*\.code(16|16gcc|32)\b", re.MULTILINE)
_OFFSET = re.compile(r":\(\S+\+0x[0-9a-f]+\): ")
_OBJECT = "payload.o"
_MESSAGE = re.compile(r"^(?P<where>.+?:\d+): (Error|Warning): (?P<what>.+)$", re.MULTILINE)


def assemble(source: Path, arch: str) -> bytes:
    """The flat binary of an assembly source for `arch` ("arm64" or "x86_64").

    The source goes to ``as`` as it is: there is no C preprocessor.
    Raises `UsageError` where the source can't be read, `PyvmmError` with file and line where
    it is wrong or not position independent, and `LackingError` where binutils are missing.
    """
    try:
        text = source.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the payload {source}: {error.strerror}") from None
    tools = _Tools(arch)
    cached = root() / "guest" / f"{tools.digest(text)}.bin"
    cacheable = not _INCLUDES.search(text)
    if cacheable and cached.exists():
        return cached.read_bytes()
    code = tools.build(source, segmented=bool(_SEGMENTED.search(text)))
    if cacheable:
        _store(cached, code)
    return code


class _Tools:
    """The assembler, linker and objcopy for one architecture."""

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
        """A name for what these tools make of `text`."""
        parts = (self.arch.encode(), _version(self.assembler), _SCRIPT.read_bytes(), text)
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def build(self, source: Path, *, segmented: bool) -> bytes:
        with tempfile.TemporaryDirectory(prefix="pyvmm-") as directory:
            unlinked = f"{directory}/{_OBJECT}"
            include = f"-I{source.parent}"
            _run(
                [self.assembler, "--fatal-warnings", "-g", include, "-o", unlinked, str(source)],
                source,
            )
            code = self._link(unlinked, 0, source)
            # An absolute address shows as a difference between two places to lie at.
            if not segmented and code != self._link(unlinked, 0x10000, source):
                raise PyvmmError(
                    f"{source} holds the absolute address of a label: a payload has to be "
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
        raise PyvmmError(_first_complaint(done.stderr, source))


def _first_complaint(stderr: str, source: Path) -> str:
    """One line out of what as or ld said: file, line, and what is wrong there."""
    if message := _MESSAGE.search(stderr):
        return f"{message['where']}: {message['what']}"
    # "…/ld: /tmp/…/payload.o:FILE:LINE:(.text+0x4): undefined reference to `NAME'", behind a line
    # of context; newer versions name the offset as well.
    last = stderr.strip().rpartition("\n")[2].rpartition(f"{_OBJECT}:")[2]
    last = _OFFSET.sub(": ", last)
    return last if source.name in last else f"{source}: {last}"


def _store(cached: Path, code: bytes) -> None:
    """Put `code` in the cache, whole or not at all; a cache that can't be written is no loss."""
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as file:
            file.write(code)
        Path(file.name).rename(cached)
    except OSError:
        return
