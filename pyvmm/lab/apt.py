# SPDX-License-Identifier: GPL-2.0-only
"""A private apt: Debian packages of any architecture and release, with checked signatures.

It keeps lists and archives in the cache, knows nothing of what the machine has installed, and
changes nothing on it. The mirror is the one of the machine's own sources; what else apt is
configured with there (a proxy, say) holds here too.
"""

import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pyvmm.errors import LackingError
from pyvmm.lab import cache

# What is happening, and how much of it is done (0 to 1) where that is known.
Progress = Callable[[str, float | None], None]

RELEASE = "trixie"  # what the userland and the tools are made of
# Of arm64, whatever may hold a kernel; of the machine's own, the tools and the kernel's source.
RELEASES = (RELEASE, f"{RELEASE}-backports")
GUEST_RELEASES = ("bookworm", "bookworm-backports", *RELEASES, "sid", "experimental")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "PYVMM_DEBIAN_MIRROR"
_ROOM = 1 << 30  # bytes: the lists, QEMU, the userland and a kernel, packed and unpacked
_LISTS_STAY_FRESH = 24 * 3600.0  # seconds

# apt reads this after the machine's own configuration, so it wins.
_CONFIGURATION = """\
Dir::Etc::sourcelist "{home}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{home}/state";
Dir::State::lists "{home}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{home}";
Dir::Cache::archives "{home}/archives";
Dir::Cache::pkgcache "{home}/pkgcache.bin";
Dir::Cache::srcpkgcache "{home}/srcpkgcache.bin";
Dir::Log "{home}/log";
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "{release}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::Retries "3";
"""


@dataclass(frozen=True)
class Version:
    """A version of a package, as apt writes it, and the release that offers it."""

    version: str
    release: str


class Apt:
    """One architecture's packages ("arm64", "amd64").

    Raises `LackingError`, here and in each method, where apt, the archive's keys, a mirror or
    the network is missing.
    """

    def __init__(self, architecture: str, progress: Progress = lambda what, done: None) -> None:
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise LackingError(
                    f"the lab is made of Debian packages and {program} is not on PATH: "
                    "install apt and dpkg (other distributions have them too)"
                )
        if not KEYRING.exists():
            raise LackingError(f"{KEYRING} is missing: install debian-archive-keyring")
        self.architecture = architecture
        self.releases = GUEST_RELEASES if architecture == "arm64" else RELEASES
        self._progress = progress
        self._home = cache.root() / "apt" / architecture

    def versions(self, package: str) -> list[Version]:
        """The versions of one package that the mirror offers, apt's preferred order.

        ``package`` may be a glob; the list is empty where there is none.
        """
        self._update()
        text = self._run("apt-cache", "madison", package).stdout
        rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
        return [Version(row[1], row[2].split()[1].split("/")[0]) for row in rows]

    def names(self, pattern: str) -> list[str]:
        """The names of packages that a regular expression matches."""
        self._update()
        text = self._run("apt-cache", "search", "--names-only", pattern).stdout
        return sorted(line.split(" - ")[0] for line in text.splitlines())

    def fetch(
        self, *packages: str, release: str = RELEASE, dependencies: bool = True
    ) -> list[Path]:
        """Fetch packages, and by default all that they depend on; returns the archives.

        A package is a NAME, a NAME=VERSION or a NAME/RELEASE, as for ``apt-get install``.
        ``release`` is preferred for what names neither.
        """
        self._update()
        if dependencies:
            command = ["apt-get", "-t", release, "-y", "install", *packages]
        else:
            command = ["apt-get", "-t", release, "download", *packages]
        # apt leaves out of the list what it finds among the archives: show it none.
        nowhere = ("-o", f"Dir::Cache::archives={self._home}/nowhere")
        listing = self._run(*command, "--print-uris", *nowhere).stdout
        # 'URI' NAME_VERSION_ARCH.deb SIZE CHECKSUM, with %3a for the epoch's colon.
        archives = re.findall(r"^'\S+' (\S+\.deb) \d+", listing, re.MULTILINE)
        store = self._home / "archives"
        what = packages[0] if len(packages) == 1 else f"{packages[0]} and what goes with it"
        with cache.locked(store):
            (store / "partial").mkdir(parents=True, exist_ok=True)
            if not all((store / name).exists() for name in archives):
                self._fetch([*command, "--download-only"] if dependencies else command, what)
            for name in archives:
                # `apt-get download` writes the epoch's colon as it is on some versions.
                plain = store / unquote(name)
                if not (store / name).exists() and plain.exists():
                    plain.rename(store / name)
        return [store / name for name in archives]

    def _fetch(self, command: Sequence[str], what: str) -> None:
        """Run a fetching apt-get, and progress how far it is from its status lines."""
        read, write = os.pipe()
        argv = [command[0], *self._options(), "-o", f"APT::Status-Fd={write}", *command[1:]]
        with subprocess.Popen(
            argv,
            cwd=self._home / "archives",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[write],
            text=True,
        ) as process:
            os.close(write)
            with open(read) as status:  # noqa: PTH123 (a descriptor, not a path)
                for line in status:
                    # dlstatus:SERIAL:PERCENT:TEXT
                    fields = line.split(":", 3)
                    if fields[0] == "dlstatus":
                        self._progress(f"fetching {what}", float(fields[2]) / 100)
            assert process.stderr is not None
            complaint = process.stderr.read()
        if process.returncode:
            raise LackingError(_explain(f"fetching {what}", complaint))

    def _update(self) -> None:
        """Make the lists, where they are missing, old, or of another mirror."""
        with cache.locked(self._home):
            sources = "".join(
                f"deb [signed-by={KEYRING}] {_mirror()} {release} main\n"
                for release in self.releases
            )
            configuration = _CONFIGURATION.format(
                home=self._home, architecture=self.architecture, release=RELEASE
            )
            stamp = self._home / "fresh"
            if (
                stamp.exists()
                and stamp.read_text() == sources + configuration
                and time.time() - stamp.stat().st_mtime < _LISTS_STAY_FRESH
            ):
                return
            cache.need(_ROOM)
            for name in ("lists/partial", "nowhere/partial", "state", "log"):
                (self._home / name).mkdir(parents=True, exist_ok=True)
            (self._home / "sources.list").write_text(sources)
            (self._home / "apt.conf").write_text(configuration)
            self._progress(f"reading Debian's package lists for {self.architecture}", None)
            self._run("apt-get", "update", "-o", "APT::Update::Error-Mode=any")
            stamp.write_text(sources + configuration)

    def _options(self) -> list[str]:
        return ["-c", str(self._home / "apt.conf"), "-q"]

    def _run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [program, *self._options(), *arguments],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LackingError(_explain(f"{program} {' '.join(arguments)}", done.stderr))
        return done


def unpack(
    archives: Sequence[Path], into: Path, *, progress: Progress = lambda what, done: None
) -> None:
    """Unpack archives into one directory; no script of theirs runs."""
    into.mkdir(parents=True, exist_ok=True)
    # Programs and libraries go to /usr/bin and /usr/lib alone, as on an installed Debian,
    # whichever of the two a package calls them by.
    for name in ("bin", "sbin", "lib", "lib64"):
        (into / "usr" / name).mkdir(parents=True, exist_ok=True)
        (into / name).symlink_to(f"usr/{name}")
    for index, archive in enumerate(archives):
        progress(f"unpacking Debian packages ({len(archives)})", index / len(archives))
        # dpkg-deb -x would replace the links just made with directories; tar keeps them.
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as package:
            done = subprocess.run(
                ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", into],
                stdin=package.stdout,
                capture_output=True,
                text=True,
                check=False,
                env=_environment(),
            )
        if done.returncode or package.returncode:
            if "No space left" in done.stderr:
                raise LackingError(f"no space left unpacking {archive.name} into {into}")
            raise LackingError(f"{archive} does not unpack: remove it and try again")


def _mirror() -> str:
    """Where the machine's own sources find Debian."""
    if mirror := os.environ.get(MIRROR_VARIABLE):
        return mirror
    return _machines_mirror()


@functools.cache
def _machines_mirror() -> str:
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    ).stdout
    for line in targets.splitlines():
        uri, release = line.split()
        if release in (*GUEST_RELEASES, "forky", "stable", "testing", "unstable"):
            return uri
    raise LackingError(
        f"apt's sources name no Debian release: set {MIRROR_VARIABLE} to a Debian mirror's URL"
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _explain(doing: str, complaint: str) -> str:
    """One line from what apt wrote on stderr."""
    lines = [line for line in complaint.splitlines() if line.startswith(("E:", "W:"))]
    reason = lines[0][2:].strip() if lines else complaint.strip() or "apt gave no reason"
    if re.search("resolv|connect|network", complaint, re.IGNORECASE):
        return f"{doing}: Debian's mirror cannot be reached ({reason})"
    if "space" in complaint:
        return f"{doing}: no space left: free some, or set XDG_CACHE_HOME to another disk"
    return f"{doing}: {reason}"
