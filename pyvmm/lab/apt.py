# SPDX-License-Identifier: GPL-2.0-only
"""A private apt: Debian packages of any architecture and release, with checked signatures.

Package lists and archives are stored in the cache. The packages installed on this machine are
neither read nor changed. The mirror and other apt settings (a proxy, for example) are those of
this machine.
"""

import functools
import hashlib
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

# progress(step, fraction): called with the current step and the fraction (0 to 1) of it that is
# done, or None if that is unknown.
Progress = Callable[[str, float | None], None]

RELEASE = "trixie"  # the release of the userland and the tools
# arm64 needs every release with a kernel; this machine needs the tools and the kernel source.
RELEASES = (RELEASE, f"{RELEASE}-backports")
GUEST_RELEASES = ("bookworm", "bookworm-backports", *RELEASES, "sid", "experimental")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "PYVMM_DEBIAN_MIRROR"
# Disk space, in bytes, for the lists, QEMU, the userland and a kernel, packed and unpacked.
_DISK_SPACE = 1 << 30
_LISTS_MAX_AGE = 24 * 3600.0  # seconds
_INCOMPLETE_LISTS_MAX_AGE = 600.0

# apt reads this after this machine's configuration, so it overrides that.
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


class _RejectedError(LackingError):
    """apt rejected lists (expired, missing, wrongly signed) or packages."""


@dataclass(frozen=True)
class Version:
    """A package version in Debian's notation, and the release that has it."""

    version: str
    release: str


def no_progress(step: str, fraction: float | None) -> None:
    """Ignore a progress report."""


class Apt:
    """The packages of one architecture ("arm64", "amd64").

    The constructor and each method raise `LackingError` if apt, Debian's archive keys, a mirror
    or the network is missing.
    """

    def __init__(self, architecture: str, progress: Progress = no_progress) -> None:
        """Check that apt, dpkg and Debian's archive keys are installed."""
        for program in ("apt-get", "dpkg-deb"):
            if shutil.which(program) is None:
                raise LackingError(
                    f"the lab needs Debian packages, and {program} is not on PATH: "
                    "install apt and dpkg (other distributions package them too)"
                )
        if not KEYRING.exists():
            raise LackingError(f"{KEYRING} is missing: install debian-archive-keyring")
        self.architecture = architecture
        self.releases = GUEST_RELEASES if architecture == "arm64" else RELEASES
        self._progress = progress
        self._home = cache.root() / "apt" / architecture

    def omitted(self) -> str:
        """Return which releases' lists are missing, to append to an error message, or ""."""
        sources = (self._home / "sources.list").read_text()
        missing = [name for name in self.releases if self._source(name) not in sources]
        return f"; the lists of {', '.join(missing)} are missing" if missing else ""

    def versions(self, package: str) -> list[Version]:
        """Return the mirror's versions of a package, in apt's order of preference.

        `package` may be a glob. The list is empty if no package matches.
        """
        self._update()
        text = self._run("apt-cache", "madison", package).stdout
        rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
        return [Version(row[1], row[2].split()[1].split("/")[0]) for row in rows]

    def names(self, pattern: str) -> list[str]:
        """Return the sorted names of the packages that match a regular expression."""
        self._update()
        text = self._run("apt-cache", "search", "--names-only", pattern).stdout
        return sorted(line.split(" - ")[0] for line in text.splitlines())

    def fetch(
        self, *packages: str, release: str = RELEASE, dependencies: bool = True
    ) -> list[Path]:
        """Download packages and, by default, their dependencies; return the archives.

        Each package is NAME, NAME=VERSION or NAME/RELEASE, as for ``apt-get install``.
        Packages without a version or release come from `release` if it has them.
        """
        self._update()
        if dependencies:
            command = ["apt-get", "-t", release, "-y", "install", *packages]
        else:
            command = ["apt-get", "-t", release, "download", *packages]
        # --print-uris omits archives that are already downloaded: give it an empty directory.
        options = ["-o", f"Dir::Cache::archives={self._home}/nowhere"]
        options += ["-o", "Acquire::ForceHash=SHA256"]
        try:
            listing = self._run(*command, "--print-uris", *options).stdout
        except _RejectedError as error:
            raise LackingError(f"{error}{self.omitted()}") from None
        # 'URI' NAME_VERSION_ARCH.deb SIZE SHA256:DIGEST, with the colon of an epoch as %3a.
        archives = dict(re.findall(r"^'\S+' (\S+\.deb) \d+ SHA256:(\w+)", listing, re.MULTILINE))
        store = self._home / "archives"
        what = packages[0] if len(packages) == 1 else f"{packages[0]} and other packages"
        with cache.lock(store):
            (store / "partial").mkdir(parents=True, exist_ok=True)
            for name, digest in archives.items():
                # apt does not check an archive of the right size that an earlier run left.
                if not _has_digest(store / name, digest):
                    cache.remove(store / name)
            if not all((store / name).exists() for name in archives):
                self._fetch([*command, "--download-only"] if dependencies else command, what)
            for name in archives:
                # Some versions of `apt-get download` do not escape the colon of an epoch.
                plain = store / unquote(name)
                if not (store / name).exists() and plain.exists():
                    plain.rename(store / name)
        return [store / name for name in archives]

    def _fetch(self, command: Sequence[str], what: str) -> None:
        """Run an apt-get command that downloads, and report progress from its status lines."""
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
            with open(read) as status:  # noqa: PTH123 (a file descriptor, not a path)
                for line in status:
                    # dlstatus:SERIAL:PERCENT:TEXT
                    fields = line.split(":", 3)
                    if fields[0] == "dlstatus":
                        self._progress(f"fetching {what}", float(fields[2]) / 100)
            assert process.stderr is not None
            errors = process.stderr.read()
        if process.returncode:
            raise _error(f"fetching {what}", errors)

    def _update(self) -> None:
        """Run ``apt-get update`` if the lists are missing, old, or of another mirror."""
        with cache.lock(self._home):
            sources = "".join(map(self._source, self.releases))
            configuration = _CONFIGURATION.format(
                home=self._home, architecture=self.architecture, release=RELEASE
            )
            stamp = self._home / "fresh"
            parts = [self._home / name for name in ("lists", "sources.list", "apt.conf")]
            damaged = [path for path in parts if not cache.is_intact(path)]
            if (
                not damaged
                and stamp.is_file()
                and stamp.read_text() == sources + configuration
                and time.time() - stamp.stat().st_mtime
                < (_INCOMPLETE_LISTS_MAX_AGE if self.omitted() else _LISTS_MAX_AGE)
            ):
                return
            cache.require_space(_DISK_SPACE)
            for path in (stamp, *damaged):
                cache.remove(path)  # apt would keep a list that has not changed on the mirror
            for name in ("lists/partial", "nowhere/partial", "state", "log"):
                (self._home / name).mkdir(parents=True, exist_ok=True)
            (self._home / "apt.conf").write_text(configuration)
            self._progress(f"reading Debian's package lists for {self.architecture}", None)
            try:
                self._download_lists(self.releases)
            except _RejectedError:
                self._download_lists(self._valid_releases())
            for path in parts:
                cache.record(path, path)
            stamp.write_text(sources + configuration)

    def _valid_releases(self) -> list[str]:
        """Return the releases whose lists can be downloaded; warn of each other one.

        Raises `LackingError` if there is none.
        """
        valid = []
        for release in self.releases:
            try:
                self._download_lists([release], "-o", "APT::Get::List-Cleanup=false")
            except _RejectedError as error:
                failure = error
                reason = str(error).partition("failed: ")[2]
                self._progress(f"warning: going on without {release}: {reason}", None)
            else:
                valid.append(release)
        if not valid:
            raise failure
        return valid

    def _download_lists(self, releases: Sequence[str], *options: str) -> None:
        (self._home / "sources.list").write_text("".join(map(self._source, releases)))
        self._run("apt-get", "update", "-o", "APT::Update::Error-Mode=any", *options)

    def _source(self, release: str) -> str:
        return f"deb [signed-by={KEYRING}] {_mirror()} {release} main\n"

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
            raise _error(f"{program} {' '.join(arguments)}", done.stderr)
        return done


def _has_digest(path: Path, digest: str) -> bool:
    """Return True if `path` is a file with this SHA-256."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def unpack(archives: Sequence[Path], into: Path, *, progress: Progress = no_progress) -> None:
    """Unpack archives into one directory, without running their maintainer scripts."""
    into.mkdir(parents=True, exist_ok=True)
    # Merge /bin, /sbin and /lib into /usr, as an installed Debian does.
    for name in ("bin", "sbin", "lib", "lib64"):
        (into / "usr" / name).mkdir(parents=True, exist_ok=True)
        (into / name).symlink_to(f"usr/{name}")
    for index, archive in enumerate(archives):
        progress(f"unpacking Debian packages ({len(archives)})", index / len(archives))
        # dpkg-deb -x would replace these symlinks with directories; tar keeps them.
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
                raise LackingError(f"no space left to unpack {archive.name} into {into}")
            raise LackingError(f"cannot unpack {archive}: remove it and try again")


def _mirror() -> str:
    """Return the URL of the Debian mirror to use."""
    return os.environ.get(MIRROR_VARIABLE) or _configured_mirror()


@functools.cache
def _configured_mirror() -> str:
    """Return the Debian mirror in this machine's apt sources."""
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
        f"apt's sources contain no Debian release: set {MIRROR_VARIABLE} to the URL of a mirror"
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _error(step: str, errors: str) -> LackingError:
    """Return the exception for a failed step, whose one-line message is from apt's stderr."""
    lines = [line for line in errors.splitlines() if line.startswith(("E:", "W:"))]
    reason = lines[0][2:].strip() if lines else errors.strip() or "apt gave no reason"
    if re.search("resolv|connect|network", errors, re.IGNORECASE):
        return LackingError(f"{step} failed: cannot reach the Debian mirror ({reason})")
    if "space" in errors:
        return LackingError(
            f"{step} failed: no space left: free some, or set XDG_CACHE_HOME to another disk"
        )
    return _RejectedError(f"{step} failed: {reason}")
