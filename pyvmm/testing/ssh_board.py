# SPDX-License-Identifier: GPL-2.0-only
"""A machine that is reached by ssh, as a board: ``--on ssh:HOST``.

Each start copies pyvmm and the tests to a new temporary directory there, which the stop removes.
"""

import io
import os
import selectors
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyvmm
from pyvmm.errors import LackingError, UsageError
from pyvmm.lab.apt import Progress
from pyvmm.testing.board_protocol import JOB_FILE, Job

_PACKAGE = Path(pyvmm.__file__).parent
# The connection is lost after 15 s without an answer. ssh(1) reads no password from the terminal.
_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
)
_LOST = 255  # ssh's exit status if the connection fails
_CALL_TIMEOUT = 60.0  # seconds for a command that only manages files
_RETRY = 2.0  # seconds
_CHUNK = 1 << 16
_NOT_COPIED = ("__pycache__", "build", "dist")
_LARGEST_COPY = 256 << 20  # bytes of the tests' directory


class SshBoard:
    """A machine that runs tests with its own Python and pytest.

    Attributes:
        name: its host name, without the user's.
        kernel: the release of its kernel.
    """

    def __init__(
        self, destination: str, *, device: str | None, ssh: Sequence[str], patience: float
    ) -> None:
        """Reach `destination` with the command `ssh`; bind PCI function `device` to vfio there.

        `patience` is in seconds, for a machine that failed to answer again.
        """
        self.name = destination.rpartition("@")[2]
        self.kernel = "unknown"
        self._ssh = [*ssh, *_OPTIONS, destination]
        self._device = device
        self._patience = patience

    def prepare(self, progress: Progress) -> None:
        """Check that the machine answers and has pytest."""
        progress(f"connecting to {self.name}", None)
        try:
            self.kernel = self._call("python3 -m pytest --version >&2 && uname -r").strip()
        except LackingError as error:
            if "No module named" in str(error):
                raise LackingError(f"{self.name} has no pytest: install it there") from None
            raise

    @contextmanager
    def start(self, job: Job, stdout: BinaryIO, stderr: BinaryIO) -> Iterator["SshRun"]:
        """Copy the tests, run the job, and remove the copy."""
        copy = _archive(job, self._device)
        command = 'directory=$(mktemp -d) && tar -xf - -C "$directory" && echo "$directory"'
        directory = PurePosixPath(self._call(command, copy).strip())
        variables = f"PYTHONPATH={directory}/site HYPOTHESIS_STORAGE_DIRECTORY={directory}/tmp"
        # The shell of a command leads a process group (do_exec_no_pty in OpenSSH's session.c).
        script = (
            f"echo $$ >{directory}/pid; cd {directory}/root; "
            f"exec env {variables} {shlex.join(job.command(directory))}"
        )
        try:
            with SshRun(self.name, [*self._ssh, script], stdout, stderr) as run:
                yield run
        finally:
            with suppress(LackingError):  # the machine may be dead
                kill = f'kill -KILL -"$(cat {directory}/pid)" 2>/dev/null'
                self._call(f"{kill}; rm -rf {directory}")

    def power_cycle(self) -> None:
        """Wait until the machine answers: it may reset itself, but nothing here can."""
        end = time.monotonic() + self._patience
        while True:
            try:
                self._call("true")
            except LackingError as error:
                if time.monotonic() > end:
                    text = f"{error}; it did not come back within {self._patience:g} s"
                    raise LackingError(text) from None
                time.sleep(_RETRY)
            else:
                return

    def release(self) -> None:
        """Do nothing: ssh reserves no machine."""

    def _call(self, command: str, data: bytes = b"") -> str:
        """Run a shell command on the machine and return its output. Raises `LackingError`."""
        try:
            done = subprocess.run(
                [*self._ssh, command],
                input=data,
                capture_output=True,
                timeout=_CALL_TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            raise LackingError(f"{self._ssh[0]} not found: install openssh-client") from None
        except subprocess.TimeoutExpired:
            raise LackingError(f"{self.name} did not answer within {_CALL_TIMEOUT:g} s") from None
        if done.returncode:
            message = _last_line(done.stderr) or f"exit status {done.returncode}"
            raise LackingError(f"cannot run a command on {self.name}: {message}")
        return done.stdout.decode(errors="replace")


class SshRun:
    """A job that runs on a machine, through one ssh process. A context manager."""

    def __init__(self, name: str, argv: Sequence[str], stdout: BinaryIO, stderr: BinaryIO) -> None:
        """Start it, and copy its output to `stdout` and `stderr`."""
        self._name = name
        self._errors = b""
        self._stderr = stderr
        self._expired = 0.0
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,  # Ctrl-C must reach only this process, which ends ssh
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._selector = selectors.DefaultSelector()
        for pipe, write in (
            (self._process.stdout, stdout.write),
            (self._process.stderr, self._write_error),
        ):
            self._selector.register(pipe, selectors.EVENT_READ, write)

    def __enter__(self) -> "SshRun":
        """Return the run."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Kill ssh."""
        self._selector.close()
        self._process.kill()
        with suppress(BrokenPipeError):  # an order that was not sent
            self._process.__exit__(None, None, None)

    def send(self, data: bytes) -> None:
        """See `Run.send`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `relay` notices the end
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def relay(self, until: Callable[[], bool], timeout: float) -> bool:
        """See `Run.relay`."""
        end = time.monotonic() + timeout
        while not until() and self._selector.get_map():
            ready = self._selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                self._expired = timeout
                break
            for key, _ in ready:
                if data := os.read(key.fd, _CHUNK):
                    key.data(data)
                else:
                    self._selector.unregister(key.fileobj)
        return until()

    def wait(self, timeout: float | None = None) -> int:
        """See `Run.wait`."""
        if timeout is not None and not self._expired:
            self.relay(lambda: False, timeout)
        if self._expired:
            raise LackingError(f"the command did not end within {self._expired:g} s")
        if (status := self._process.wait()) == _LOST:
            message = _last_line(self._errors)
            raise LackingError(f"the board {self._name} disappeared" + (message and f": {message}"))
        return status

    def console(self) -> str:
        """Return nothing: ssh has no console."""
        return ""

    def attach(self, until: Callable[[], bool]) -> None:
        """Do nothing: only the lab has ``--lab-shell-on-failure``."""

    def _write_error(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-_CHUNK:]
        self._stderr.write(data)


def _archive(job: Job, device: str | None) -> bytes:
    """Return a tar archive of the tests, pyvmm, and the job's files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:

        def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            name = PurePosixPath(member.name).name
            here = job.root / PurePosixPath(member.name).relative_to("root")
            if here != job.root and (name.startswith(".") or name in _NOT_COPIED):
                return None
            if (here / "pyvenv.cfg").exists():
                return None
            if archive.tell() + member.size > _LARGEST_COPY:
                raise UsageError(f"{job.root} is too large to copy: pass --rootdir")
            return member if member.isreg() or member.isdir() or member.issym() else None

        tar.add(job.root, "root", filter=keep)
        tar.add(_PACKAGE, "site/pyvmm", filter=_without_bytecode)
        for each in job.headers:
            tar.add(each, each.name)
        settings = job.settings(device=device).encode()
        member = tarfile.TarInfo(JOB_FILE)
        member.size = len(settings)
        tar.addfile(member, io.BytesIO(settings))
    return archive.getvalue()


def _without_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith("__pycache__") else member


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
