# SPDX-License-Identifier: GPL-2.0-only
"""The end of ``--lab`` that boots: hosts by CPU and kernel, and what comes out of one."""

import io
import json
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyvmm.errors import PyvmmError
from pyvmm.lab.host import FILES, Host, RunningHost
from pyvmm.lab.terminal import Terminal

# pytest and hypothesis would write beside the tests, which are read-only there. What a project's
# ini file asks of plugins that it has here is not for there.
_PYTEST = (
    *("python3", "-m", "pytest", "-p", "pyvmm.testing.plugin", "-p", "pyvmm.testing.guest_agent"),
    *("-p", "no:cacheprovider", "--continue-on-collection-errors"),
    *("-o", "addopts=", "-o", "required_plugins=", "-o", "minversion="),
)
_VARIABLES = {"HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis"}
_ARRIVAL = 180.0  # seconds more, until the first word: power-on, and Python's compiling
_GOODBYE = 60.0  # seconds to end in, after the last test

Event = Mapping[str, Any]


class HostFailure(PyvmmError):
    """The emulated host is gone, or hangs; the text is several lines, the kernel's last ones."""


class HostSession:
    """One boot of a host, and the tests that it runs.

    Attributes:
        stderr: what the tests' process wrote there so far.
    """

    def __init__(
        self,
        host: Host,
        tests: Sequence[str],
        *,
        root: Path,
        ini: Path | None,
        options: Mapping[str, Any],
        timeout: float,
        shell: bool,
    ) -> None:
        """Power on; the tests' node ids are of `root`, which is shared with the host."""
        self._events: deque[Event] = deque()
        self._timeout = timeout
        self._arrival = _ARRIVAL
        self.stderr = io.BytesIO()
        with ExitStack() as stack:
            self._terminal = stack.enter_context(Terminal()) if shell else None
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyvmm-")))
            job = scratch / "job.json"
            terminal = Terminal.DEVICE if shell else None
            job.write_text(json.dumps({"tests": tests, "options": options, "shell": terminal}))
            command = [*_PYTEST, "--rootdir=.", f"--guest-agent={FILES / job.name}"]
            command += ["-c", str(ini.relative_to(root))] if ini else []
            # The host's files are the headers that its pyvmm is to know, where there are any.
            command += [f"--kvm-headers={FILES / each.name}" for each in host.files]
            command += [f"--capture={options['capture']}"] if "capture" in options else []
            command += dict.fromkeys(nodeid.partition("::")[0] for nodeid in tests)
            self._running: RunningHost = stack.enter_context(
                replace(host, files=(*host.files, job)).boot(
                    command,
                    stdout=_Lines(self._events),
                    stderr=self.stderr,
                    variables=_VARIABLES,
                    directory=root,
                    terminal=self._terminal,
                )
            )
            self._stack = stack.pop_all()

    def next(self) -> Event:
        """What comes next. Raises `HostFailure`."""
        patience = self._timeout + self._arrival
        if not self._events and not self._running.relay(self._come, patience):
            raise HostFailure(self._post_mortem())
        self._arrival = 0.0
        return self._events.popleft()

    def _come(self) -> bool:
        return bool(self._events)

    def attach(self) -> None:
        """Give the host this process's terminal, until its shell has ended."""
        if self._terminal:
            self._terminal.attach(self._running.ports, self._come)

    def close(self, *, kill: bool = False) -> None:
        """Power off; unless it is to be killed, wait for it to keep what it compiled."""
        with self._stack:
            if not kill:
                try:
                    self._running.wait(_GOODBYE)
                except PyvmmError:
                    return  # its tests are done, and no one waits for the rest

    def _post_mortem(self) -> str:
        console = self._running.console()
        try:
            status = self._running.wait()
            reason = f"pytest ended there with status {status}"
        except PyvmmError as error:
            # One line, with the console's last ones in it: here they follow on their own.
            reason = str(error).partition("; the console's log")[0]
        last = self.stderr.getvalue().decode(errors="replace").strip().splitlines()[-60:]
        parts = [reason, *(["", "the last lines on its console:", console] if console else [])]
        return "\n".join([*parts, *(["", "on stderr:", *last] if last else [])])


class _Lines(io.BytesIO):
    """A file that takes lines of JSON apart; what is none is left out."""

    def __init__(self, events: deque[Event]) -> None:
        super().__init__()
        self._events = events
        self._rest = b""

    def write(self, data: Any) -> int:
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                self._events.append(event)
        return len(data)
