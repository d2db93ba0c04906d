# SPDX-License-Identifier: GPL-2.0-only
"""One emulated host, from power-on to power-off, and the one command that runs in it.

The command's ports come over virtio ports whose other ends are sockets held here, so they
arrive unchanged; the console goes to a log. QEMU is told by the kernel to die with its parent,
however that ends.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyvmm
from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import cache, initramfs, kernel_build, lab_devices, package_tree, pycache, userland
from pyvmm.lab.apt import Progress
from pyvmm.lab.kernel import Kernel
from pyvmm.lab.qemu import EmulatedMachine, Qemu, dump_device_tree
from pyvmm.lab.stage2_server import Stage2Server
from pyvmm.lab.terminal import Terminal
from pyvmm.lab.virtio_ports import VirtioPorts

# What Python there finds pyvmm in: all of the checkout that it is run from, or where it was
# installed, the package alone, since what lies beside that is for this machine.
PACKAGE = Path(pyvmm.__file__).parent
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else None
FILES = Path("/run/files")
_INIT = Path(__file__).with_name("init.sh")
_LOGS_KEPT = 20
_LINES_TOLD = 10
_LINES_SHOWN = 40
# Nothing on the console but what matters, no self-tests, and an end to it after a panic: QEMU
# leaves at the reset that follows.
_COMMAND_LINE = "console=ttyAMA0 panic=-1 quiet loglevel=4 cryptomgr.notests audit=0 nokaslr"
_PANIC = re.compile(r"Kernel panic - .*|Unable to handle kernel .*")


@dataclass(frozen=True)
class Host:
    """What an emulated host is made of. Each `run` is a new one, powered on and off again."""

    qemu: Qemu
    kernel: Kernel
    machine: EmulatedMachine
    image: Path
    busybox: Path
    fdtput: tuple[str, ...]
    files: tuple[Path, ...] = ()  # each is in the host's `FILES` under its own name

    def run(
        self,
        command: Sequence[str],
        *,
        stdout: BinaryIO,
        stderr: BinaryIO,
        timeout: float | None = None,
        variables: Mapping[str, str] = {},
    ) -> int:
        """Run a command in the checkout's directory; returns its exit status.

        ``timeout`` is in seconds from power-on; ``variables`` are added to the command's
        environment. Raises `LackingError` where it is the host that failed: it hung, its kernel
        panicked or has no KVM, QEMU did not start.
        """
        with self.started(command, stdout=stdout, stderr=stderr, variables=variables) as running:
            return running.end(timeout)

    @contextmanager
    def started(
        self,
        command: Sequence[str],
        *,
        stdout: BinaryIO,
        stderr: BinaryIO,
        variables: Mapping[str, str] = {},
        directory: Path | None = None,
        terminal: Terminal | None = None,
    ) -> Iterator["RunningHost"]:
        """Power a host on to run a command there; it is off when the block has ended.

        The command's directory is `directory`, shared read-only, by default the checkout.
        """
        with ExitStack() as stack:
            compiled = io.BytesIO()
            ports = stack.enter_context(VirtioPorts(stdout, stderr, compiled))
            log = stack.enter_context(_log())
            argv, descriptors = self._arguments(stack, command, variables, log, directory)
            argv += [*ports.arguments(), *(terminal.arguments() if terminal else ())]
            argv += stack.enter_context(Stage2Server()).arguments()
            descriptors += [*ports.descriptors(), *(terminal.descriptors() if terminal else ())]
            process = stack.enter_context(_started(argv, descriptors))
            yield RunningHost(self, ports, process, log, compiled, directory)

    def shell(self, command: Sequence[str]) -> int:
        """Run a command with this terminal as its own; returns its exit status."""
        columns, rows = shutil.get_terminal_size()
        terminal = {"TERMINAL": "y", "ROWS": str(rows), "COLUMNS": str(columns)}
        terminal["TERM"] = os.environ.get("TERM", "linux")
        with ExitStack() as stack:
            ports = stack.enter_context(VirtioPorts())
            log = stack.enter_context(_log())
            argv, descriptors = self._arguments(stack, command, terminal, log)
            argv += ports.arguments()
            argv += stack.enter_context(Stage2Server()).arguments()
            argv += ["-chardev", "stdio,id=terminal,signal=off"]
            argv += ["-device", "virtconsole,chardev=terminal,nr=0"]
            descriptors += ports.descriptors()
            process = stack.enter_context(_started(argv, descriptors, terminal=True))
            ports.relay()
            return self.judge(ports, process, log)

    def _arguments(
        self,
        stack: ExitStack,
        command: Sequence[str],
        variables: Mapping[str, str],
        log: Path,
        directory: Path | None = None,
    ) -> tuple[list[str], list[int]]:
        """QEMU's arguments but for the ports, and the files that they name by number.

        Those are open as long as ``stack`` is.
        """
        exports = "".join(f"export {key}={shlex.quote(each)}\n" for key, each in variables.items())
        shares, place = _shares(directory)
        bindings = lab_devices.bindings(self.machine.devices)
        job = (
            f"{exports}NOW={time.time():.0f} BINDINGS='{bindings}'\n"
            f"SHARES='{' '.join(f'{tag}={there}' for tag, (there, _) in shares.items())}'\n"
            f"DIRECTORY={place}\n"
            f"set -- {shlex.join(command)}\n"
        )
        modules = self.kernel.modules.read_bytes() if self.kernel.modules else b""
        start = initramfs.boot_archive(self.busybox, _INIT, job, self.files)
        parts = modules + pycache.archive(_by_path(shares)) + start
        initrd = stack.enter_context(_in_memory(parts))
        descriptors = [initrd]
        line = f"{_COMMAND_LINE} mem={self.machine.memory >> 20}M {self.machine.append}"
        argv = [*self.qemu.command, *self.machine.arguments()]
        argv += ["-kernel", str(self.kernel.image), "-append", line]
        argv += ["-initrd", f"/dev/fd/{initrd}"]
        argv += ["-serial", f"file:{log}"]
        argv += ["-blockdev", f"driver=file,node-name=root,read-only=on,filename={self.image}"]
        argv += ["-device", "virtio-blk-device,drive=root"]
        for tag, (_, here) in shares.items():
            share = f"local,id={tag},path={_escaped(here)},security_model=none,readonly=on"
            argv += ["-fsdev", share, "-device", f"virtio-9p-device,fsdev={tag},mount_tag={tag}"]
        if any(device.reserved for device in self.machine.devices):
            dtb = stack.enter_context(_in_memory(self._device_tree()))
            argv += ["-dtb", f"/dev/fd/{dtb}"]
            descriptors.append(dtb)
        return argv, descriptors

    def _device_tree(self) -> bytes:
        """The machine's, with what the devices' drivers want of their firmware."""
        with tempfile.TemporaryDirectory(prefix="pyvmm-lab-") as scratch:
            dtb = Path(scratch) / "machine.dtb"
            dump_device_tree(self.qemu, self.machine, dtb)
            lab_devices.describe(self.machine.devices, self.machine.memory, dtb, self.fdtput)
            return dtb.read_bytes()

    def judge(self, ports: VirtioPorts, process: "subprocess.Popen[bytes]", log: Path) -> int:
        """The command's exit status, or an error that says why the host did not get to it."""
        if ports.status is not None:
            return ports.status
        process.kill()
        assert process.stderr is not None
        complaint = process.stderr.read().decode(errors="replace").strip()
        console = log.read_text(errors="replace")
        if ports.failure:
            reason = f"{ports.failure} ({self.kernel.name})"
        elif ports.late:
            what = "end" if ports.started else "start the command"
            reason = f"the emulated host did not {what} within {ports.late:g} s"
        elif complaint and not console:
            raise self._refusal(complaint)
        elif panic := _PANIC.search(console):
            reason = f"the kernel {self.kernel.name} crashed: {panic[0].strip()}"
        elif not ports.started:
            reason = f"the kernel {self.kernel.name} never started the command"
        else:
            reason = "the emulated host ended before the command did"
        last = " | ".join(console.split("\n")[-_LINES_TOLD:]).strip(" |")
        raise LackingError(f"{reason}; the console's log is {log}" + (f": {last}" if last else ""))

    def _refusal(self, complaint: str) -> Exception:
        """The error for a QEMU that would not start."""
        if "unable to find CPU model" in complaint:
            return UsageError(
                f"there is no CPU {self.machine.cpu!r}: QEMU has {', '.join(self.qemu.cpus())}"
            )
        if "-device" in complaint or "CPU" in complaint or "property" in complaint.lower():
            return UsageError(f"QEMU: {complaint.splitlines()[0]}")
        return LackingError(f"QEMU does not start: {complaint.splitlines()[0]}")


@dataclass(frozen=True)
class RunningHost:
    """A host that runs its command."""

    host: Host
    ports: VirtioPorts
    _process: "subprocess.Popen[bytes]"
    _log: Path
    _compiled: io.BytesIO
    _directory: Path | None

    def relay(self, until: Callable[[], bool], timeout: float) -> bool:
        """Copy the command's output until something is so; False where that was not to be.

        Then the host ended, or `timeout` seconds went by; `end` says more.
        """
        self.ports.relay(timeout, until)
        return until()

    def end(self, timeout: float | None = None) -> int:
        """Wait for the command's end; returns its exit status. Raises what `Host.run` does."""
        if not self.ports.late:
            self.ports.relay(timeout)
        status = self.host.judge(self.ports, self._process, self._log)
        pycache.keep(self._compiled.getvalue(), _by_path(_shares(self._directory)[0]))
        return status

    def console(self) -> str:
        """The last lines that the kernel wrote."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(line.rstrip() for line in lines[-_LINES_SHOWN:])


def prepare_by_name(
    qemu: Qemu,
    name: str | None,
    machine: EmulatedMachine,
    progress: Progress,
    files: Sequence[Path] = (),
) -> Host:
    """A host with the kernel of a name (see `build.find`), by default one that fits the devices."""
    # Only the lab's kernel has the driver of a device that needs one of its own.
    if name is None and any(device.driver != "vfio-pci" for device in machine.devices):
        name = "lab"
    return prepare(qemu, kernel_build.find_or_build(name, progress), machine, progress, files)


def prepare(
    qemu: Qemu,
    kernel: Kernel,
    machine: EmulatedMachine,
    progress: Progress,
    files: Sequence[Path] = (),
) -> Host:
    """Put a host together, and make what it needs of the rest where the cache has none."""
    return Host(
        qemu=qemu,
        kernel=kernel,
        machine=machine,
        image=userland.image(progress),
        busybox=userland.busybox(progress),
        fdtput=tuple(package_tree.tools(progress).command("fdtput")),
        files=tuple(files),
    )


def _shares(directory: Path | None) -> tuple[dict[str, tuple[str, Path]], str]:
    """What is shared, by tag: where it is there, and here; and the command's directory there."""
    if CHECKOUT:
        shares, place = {"pyvmm": ("/checkout", CHECKOUT)}, "/checkout"
    else:
        shares, place = {"pyvmm": ("/run/site/pyvmm", PACKAGE)}, "/run/site"
    if directory not in (None, CHECKOUT):
        place = "/run/directory"
        shares["directory"] = (place, directory)
    return shares, place


def _by_path(shares: Mapping[str, tuple[str, Path]]) -> dict[str, Path]:
    return dict(shares.values())


def _escaped(path: Path) -> str:
    """A path within one of QEMU's options, where a comma is doubled."""
    return str(path).replace(",", ",,")


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A file of memory alone, which goes with the last process that has it, however that ends."""
    with os.fdopen(os.memfd_create("pyvmm"), "wb") as file:
        file.write(content)
        file.flush()
        yield file.fileno()


@contextmanager
def _log() -> Iterator[Path]:
    """A new file for the console, kept if the host fails; older ones go, but for the last few."""
    logs = cache.root() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime)[:-_LOGS_KEPT]:
        old.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(prefix="console-", suffix=".log", dir=logs)
    os.close(descriptor)
    log = Path(name)
    try:
        yield log
    except LackingError:  # its text names the log
        raise
    except BaseException:
        log.unlink()
        raise
    log.unlink()


@contextmanager
def _started(
    argv: Sequence[str], descriptors: Sequence[int], *, terminal: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """QEMU, running; it has ended when the block has, and when this process dies in it."""
    if (setpriv := shutil.which("setpriv")) is None:
        raise LackingError("setpriv is not on PATH: install util-linux")
    with subprocess.Popen(
        [setpriv, "--pdeathsig", "KILL", "--", *argv],
        stdin=None if terminal else subprocess.DEVNULL,
        stdout=None if terminal else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        # Ctrl-C is for this process, which ends QEMU; a terminal's QEMU must own the terminal.
        process_group=None if terminal else 0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
