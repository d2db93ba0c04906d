# SPDX-License-Identifier: GPL-2.0-only
"""An emulated host, from power-on to power-off, and the single command that it runs.

The command's output comes over virtio ports that end at sockets of this process, so it arrives
unchanged. The console is written to a log file. The kernel kills QEMU when this process dies
(PR_SET_PDEATHSIG).
"""

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

import pyvmm
from pyvmm import scratch_dir
from pyvmm.errors import LackingError, Status, UsageError
from pyvmm.lab import (
    cache,
    initramfs,
    kernel_build,
    kvm_mode,
    lab_devices,
    package_tree,
    pycache,
    userland,
)
from pyvmm.lab.apt import Progress
from pyvmm.lab.console_log import Console
from pyvmm.lab.kernel import Kernel
from pyvmm.lab.lab_devices import option_value
from pyvmm.lab.qemu import EmulatedMachine, Qemu, dump_device_tree
from pyvmm.lab.stage2_server import Stage2Server
from pyvmm.lab.terminal import Terminal
from pyvmm.lab.virtio_ports import VirtioPorts
from pyvmm.lab.watch import Note, Watch

# The host shares the whole checkout, or only the package if pyvmm is installed: files beside an
# installed package are for this machine.
PACKAGE = Path(pyvmm.__file__).parent
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else None
FILES = Path("/run/files")
PACKAGES = Path("/run/packages")
_KERNEL = "/run/kernel"  # the directory of the kernel, for guests that boot it
_INIT = Path(__file__).with_name("init.sh")
_LOGS_KEPT = 20
_LOG_AGE = 86400.0  # seconds
_LINES_IN_ERROR = 10
_LINES_IN_REPORT = 40
# Only important console messages, no crypto self-tests, and a reset after a panic, at which QEMU
# exits (-no-reboot).
_COMMAND_LINE = (
    "console=ttyAMA0 panic=-1 oops=panic quiet loglevel=4 printk.time=1 cryptomgr.notests audit=0 "
    "nokaslr"
)
_GRACE = 5.0  # seconds for the command to end after a signal


@dataclass(frozen=True)
class Host:
    """The parts of an emulated host. Each command runs in a new boot of it.

    Attributes:
        image: the root file system.
        fdtput: the command line of fdtput(1).
        files: files of this machine, in the host as `FILES`/NAME.
        packages: unpacked Debian packages by name, in the host as `PACKAGES`/NAME.
        verbose: print QEMU's command line and the console on stderr.
    """

    qemu: Qemu
    kernel: Kernel
    machine: EmulatedMachine
    image: Path
    busybox: Path
    fdtput: tuple[str, ...]
    files: tuple[Path, ...] = ()
    packages: Mapping[str, Path] = field(default_factory=dict)
    verbose: bool = False

    def run(
        self,
        command: Sequence[str],
        *,
        stdout: BinaryIO,
        stderr: BinaryIO,
        timeout: float | None = None,
        note: Note | None = None,
        dmesg: TextIO | None = None,
    ) -> int:
        """Run a command in the checkout's directory and return its exit status.

        `timeout` is in seconds from power-on. `note` gets signs of life and what the kernel logged
        before a failure, and `dmesg` the kernel's log. SIGINT, SIGTERM and SIGHUP end the command.

        Raises `LackingError` if the host fails: QEMU does not start, the kernel panics or lacks
        KVM, or the timeout expires.
        """
        with self.boot(command, stdout=stdout, stderr=stderr, dmesg=dmesg) as running:
            try:
                return running.wait(timeout, note)
            except KeyboardInterrupt:
                running.end(signal.SIGINT)
                raise
            except SystemExit as ended:  # `errors` turns other signals into it
                running.end(int(ended.code or 0) - 128)
                raise

    @contextmanager
    def boot(
        self,
        command: Sequence[str],
        *,
        stdout: BinaryIO,
        stderr: BinaryIO,
        variables: Mapping[str, str] = {},
        directory: Path | None = None,
        terminal: Terminal | None = None,
        dmesg: TextIO | None = None,
        stdin: bool = False,
    ) -> Iterator["RunningHost"]:
        """Power the host on to run a command, and power it off when the block ends.

        `variables` are added to the command's environment. The command runs in `directory`, by
        default the checkout, which the host shares read-only. `dmesg` gets the kernel's log. With
        `stdin`, the command reads what `VirtioPorts.send` writes.
        """
        with ExitStack() as stack:
            compiled = io.BytesIO()
            ports = stack.enter_context(VirtioPorts(stdout, stderr, compiled))
            console = stack.enter_context(_console_log())
            if dmesg is not None:
                stack.callback(lambda: dmesg.writelines(f"{line}\n" for line in console.lines()))
            argv, descriptors = self._arguments(stack, command, variables, directory, stdin)
            kind = "stdio,signal=off" if self.verbose else "null"
            argv += ["-chardev", f"{kind},id=console,logfile={option_value(console.path)}"]
            all_messages = self.verbose or dmesg is not None
            argv += ["-serial", "chardev:console", "-append", self._command_line(all_messages)]
            argv += [*ports.arguments(), *(terminal.arguments() if terminal else ())]
            argv += stack.enter_context(Stage2Server()).arguments()
            descriptors += [*ports.descriptors(), *(terminal.descriptors() if terminal else ())]
            if self.verbose:
                print(shlex.join(argv), file=sys.stderr, flush=True)
            process = stack.enter_context(_qemu_process(argv, descriptors))
            yield RunningHost(self, ports, process, console, compiled, directory)

    def shell(self, command: Sequence[str], dmesg: TextIO | None = None) -> int:
        """Run a command on this process's terminal and return its exit status.

        `dmesg` gets the kernel's log. Raises `UsageError` if stdin is not a terminal, and what
        `run` raises.
        """
        columns, rows = shutil.get_terminal_size()
        variables = {"TERMINAL": "y", "ROWS": str(rows), "COLUMNS": str(columns)}
        variables["TERM"] = os.environ.get("TERM", "linux")
        unused = io.BytesIO()
        with (
            Terminal() as terminal,
            self.boot(
                command,
                stdout=unused,
                stderr=unused,
                variables=variables,
                terminal=terminal,
                dmesg=dmesg,
            ) as running,
        ):
            terminal.attach(running.ports)
            return running.wait()

    def _arguments(
        self,
        stack: ExitStack,
        command: Sequence[str],
        variables: Mapping[str, str],
        directory: Path | None,
        stdin: bool,
    ) -> tuple[list[str], list[int]]:
        """Return QEMU's command line without console and ports, and the descriptors it inherits.

        The descriptors are open until `stack` is closed.
        """
        exports = "".join(f"export {key}={shlex.quote(each)}\n" for key, each in variables.items())
        shares, working_directory = _shares(directory)
        compiled = pycache.archive(_by_mount_point(shares))
        shares["kernel"] = (_KERNEL, self.kernel.image.parent)
        for n, (name, path) in enumerate(self.packages.items()):
            shares[f"package{n}"] = (str(PACKAGES / name), path)
        bindings = lab_devices.bindings(self.machine.devices)
        job = (
            f"{exports}NOW={time.time():.0f} BINDINGS='{bindings}'\n"
            f"SHARES='{' '.join(f'{tag}={mount}' for tag, (mount, _) in shares.items())}'\n"
            f"IMAGE={shlex.quote(self.kernel.image.name)}\n"
            f"DIRECTORY={working_directory} MODE={self.machine.mode or ''}\n"
            f"STDIN={'$stdin' if stdin else '/dev/null'}\n"
            f"set -- {shlex.join(command)}\n"
        )
        modules = self.kernel.modules.read_bytes() if self.kernel.modules else b""
        boot_archive = initramfs.boot_archive(self.busybox, _INIT, job, self.files)
        archives = modules + compiled + boot_archive
        initrd = stack.enter_context(_memfd(archives))
        descriptors = [initrd]
        argv = [*self.qemu.command, *self.machine.arguments()]
        argv += ["-kernel", str(self.kernel.image), "-initrd", f"/dev/fd/{initrd}"]
        root = f"driver=file,node-name=root,read-only=on,filename={option_value(self.image)}"
        argv += ["-blockdev", root]
        argv += ["-device", "virtio-blk-device,drive=root"]
        for tag, (_, path) in shares.items():
            share = f"local,id={tag},path={option_value(path)},security_model=none,readonly=on"
            argv += ["-fsdev", share, "-device", f"virtio-9p-device,fsdev={tag},mount_tag={tag}"]
        if any(device.reserved for device in self.machine.devices):
            dtb = stack.enter_context(_memfd(self._device_tree()))
            argv += ["-dtb", f"/dev/fd/{dtb}"]
            descriptors.append(dtb)
        return argv, descriptors

    def _command_line(self, all_messages: bool) -> str:
        """Return the kernel's command line; `all_messages` puts the whole log on the console."""
        parameters = [_COMMAND_LINE, f"mem={self.machine.memory >> 20}M"]
        parameters += [f"hugepages={self.machine.hugepages}"] if self.machine.hugepages else []
        parameters += [kvm_mode.parameter(self.machine.mode), self.machine.append]
        parameters += ["ignore_loglevel"] if all_messages else []
        return " ".join(filter(None, parameters))

    def _device_tree(self) -> bytes:
        """Return the machine's device tree, with the properties that device drivers read."""
        with scratch_dir.create() as scratch:
            dtb = scratch / "machine.dtb"
            dump_device_tree(self.qemu, self.machine, dtb)
            lab_devices.add_to_device_tree(
                self.machine.devices, self.machine.memory, dtb, self.fdtput
            )
            return dtb.read_bytes()


@dataclass(frozen=True)
class RunningHost:
    """A booted host that is running its command."""

    host: Host
    ports: VirtioPorts
    _process: "subprocess.Popen[bytes]"
    _console: Console
    _compiled: io.BytesIO
    _directory: Path | None

    def relay(self, until: Callable[[], bool], timeout: float) -> bool:
        """Copy the command's output until `until()` is true, and return True.

        Return False if the host ends first or `timeout` seconds pass; `wait` raises the reason.
        """
        self.ports.relay(timeout, until)
        return until()

    def wait(self, timeout: float | None = None, note: Note | None = None) -> int:
        """Wait for the command to end and return its exit status. Raises what `Host.run` does."""
        if not self.ports.expired:
            watch = Watch(self.ports, self._console, timeout, note or _no_note)
            self.ports.relay(timeout, watch.update)
            watch.update()
        if self.ports.status is None:
            raise self._error()
        shares, _ = _shares(self._directory)
        pycache.save(self._compiled.getvalue(), _by_mount_point(shares))
        failed = self.ports.status not in (Status.DONE, Status.SKIPPED)
        if note and failed and (lines := self._console.since_command()[-_LINES_IN_REPORT:]):
            note("\n  ".join(["the host's kernel log since the command began:", *lines]))
        return self.ports.status

    def end(self, number: int) -> None:
        """Send a signal to the command, and let it end and write its output."""
        self.ports.send_signal(number)
        self.ports.relay(_GRACE)

    def console(self) -> str:
        """Return the last lines of the console."""
        lines = self._console.text().splitlines()
        return "\n".join(line.rstrip() for line in lines[-_LINES_IN_REPORT:])

    def _error(self) -> Exception:
        """Kill QEMU and return the reason why the command has no exit status."""
        self._process.kill()
        assert self._process.stderr is not None
        stderr = self._process.stderr.read().decode(errors="replace").strip()
        console = self._console.text()
        kernel, crash = self.host.kernel.name, self._console.crash()
        if self.ports.failure:
            reason = f"{self.ports.failure} (kernel {kernel})"
        elif stderr and not console:
            return self._qemu_error(stderr)
        elif crash:
            reason = f"the kernel {kernel} crashed: {crash}"
        elif self.ports.expired and self.ports.started:
            reason = f"the command did not end within {self.ports.expired:g} s"
        elif self.ports.expired:
            reason = f"the host did not start the command within {self.ports.expired:g} s"
        elif not self.ports.started:
            reason = f"the kernel {kernel} did not start the command"
        else:
            reason = "the emulated host powered off before the command ended"
        for trouble in self._console.trouble():
            reason += f"; the kernel reported: {trouble}"
        last = "" if crash else " | ".join(console.split("\n")[-_LINES_IN_ERROR:]).strip(" |")
        return LackingError(
            f"{reason}; see the console log {self._console.path}" + (f": {last}" if last else "")
        )

    def _qemu_error(self, stderr: str) -> Exception:
        """Return the error for a QEMU that did not start."""
        if "unable to find CPU model" in stderr:
            return UsageError(
                f"unknown CPU {self.host.machine.cpu!r}: "
                f"QEMU has {', '.join(self.host.qemu.cpus())}"
            )
        if "-device" in stderr or "CPU" in stderr or "property" in stderr.lower():
            return UsageError(f"QEMU: {stderr.splitlines()[0]}")
        return LackingError(f"QEMU does not start: {stderr.splitlines()[0]}")


def prepare_by_name(
    qemu: Qemu,
    name: str | None,
    machine: EmulatedMachine,
    progress: Progress,
    files: Sequence[Path] = (),
    packages: Sequence[str] = (),
) -> Host:
    """Return a host with kernel `name` (see `kernel.find`), by default one for its devices."""
    # Only the lab's kernel has vfio drivers other than vfio-pci.
    if name is None and any(device.driver != "vfio-pci" for device in machine.devices):
        name = "lab"
    kernel = kernel_build.find_or_build(name, progress)
    return prepare(qemu, kernel, machine, progress, files, packages)


def prepare(
    qemu: Qemu,
    kernel: Kernel,
    machine: EmulatedMachine,
    progress: Progress,
    files: Sequence[Path] = (),
    packages: Sequence[str] = (),
) -> Host:
    """Return a host, after creating what the cache lacks (root file system, tools)."""
    return Host(
        qemu=qemu,
        kernel=kernel,
        machine=machine,
        image=userland.image(progress),
        busybox=userland.busybox(progress),
        fdtput=tuple(package_tree.tools(progress).command("fdtput")),
        files=tuple(files),
        packages={name: package_tree.for_host(name, progress) for name in packages},
    )


def _shares(directory: Path | None) -> tuple[dict[str, tuple[str, Path]], str]:
    """Return the 9p shares and the command's working directory in the host.

    A share is a tag with its mount point in the host and its path on this machine.
    """
    if CHECKOUT:
        shares, working_directory = {"pyvmm": ("/checkout", CHECKOUT)}, "/checkout"
    else:
        shares, working_directory = {"pyvmm": ("/run/site/pyvmm", PACKAGE)}, "/run/site"
    if directory not in (None, CHECKOUT):
        working_directory = "/run/directory"
        shares["directory"] = (working_directory, directory)
    return shares, working_directory


def _no_note(text: str) -> None:
    """Ignore a note."""


def _by_mount_point(shares: Mapping[str, tuple[str, Path]]) -> dict[str, Path]:
    return dict(shares.values())


@contextmanager
def _memfd(content: bytes) -> Iterator[int]:
    """Yield the file descriptor of a memfd with this content."""
    with os.fdopen(os.memfd_create("pyvmm"), "wb") as file:
        file.write(content)
        file.flush()
        yield file.fileno()


@contextmanager
def _console_log() -> Iterator[Console]:
    """Yield the console of a new log file, which is kept if the host fails; delete old ones."""
    logs = cache.root() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _remove_old_logs(logs)
    descriptor, name = tempfile.mkstemp(prefix="console-", suffix=".log", dir=logs)
    os.close(descriptor)
    log = Path(name)
    try:
        yield Console(log)
    except LackingError:  # the error message contains the path of the log
        raise
    except BaseException:
        log.unlink(missing_ok=True)
        raise
    log.unlink(missing_ok=True)


def _remove_old_logs(logs: Path) -> None:
    """Remove all but recent logs, and those of the last day: their hosts may still run."""
    found = []
    for log in logs.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            found.append((log.stat().st_mtime, log))
    for mtime, log in sorted(found)[:-_LOGS_KEPT]:
        if mtime < time.time() - _LOG_AGE:
            log.unlink(missing_ok=True)


@contextmanager
def _qemu_process(
    argv: Sequence[str], descriptors: Sequence[int]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run QEMU; kill it when the block ends or this process dies."""
    if (setpriv := shutil.which("setpriv")) is None:
        raise LackingError("setpriv is not on PATH: install util-linux")
    with subprocess.Popen(
        [setpriv, "--pdeathsig", "KILL", "--", *argv],
        stdin=subprocess.DEVNULL,
        stdout=2,  # the console, if the host is verbose
        stderr=subprocess.PIPE,
        pass_fds=descriptors,
        process_group=0,  # Ctrl-C must reach only this process, which ends QEMU
    ) as process:
        try:
            yield process
        finally:
            process.kill()
